"""``topocompress bench``."""

import json

import pytest
from typer.testing import CliRunner

from tests.helpers.onnx_files import graph
from topocompress.cli import app
from topocompress.errors import DataError


def test_a_table_and_a_file(tmp_path):
    files = [str(graph(tmp_path / name)) for name in ("a.onnx", "b.onnx")]
    out = tmp_path / "bench.json"
    done = CliRunner().invoke(app, ["bench", *files, "--batch", "1,2", "--runs", "3", "--json", str(out)])
    assert done.exit_code == 0, done.output
    for text in ("speed-up", "95 %", "a.onnx", "b.onnx", "CPUExecutionProvider", "Written"):
        assert text in done.output
    found = json.loads(out.read_text(encoding="utf-8"))
    assert [len(file["timings"]) for file in found["files"]] == [2, 2]
    assert found["environment"]["versions"]["onnxruntime"]


@pytest.mark.parametrize("text", ["", "one", "0,1", "1;8"])
def test_batch_sizes_that_cannot_be_read(tmp_path, text):
    done = CliRunner().invoke(app, ["bench", str(graph(tmp_path / "a.onnx")), "--batch", text])
    assert isinstance(done.exception, DataError)
    assert "--batch" in done.exception.what
