"""Budgets, INT8, iterations and sweep on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.helpers.commands import BASE, run
from topocompress.criteria import Criterion
from topocompress.deploy.export import export_onnx
from topocompress.deploy.metadata import metadata_of, write_metadata
from topocompress.errors import PlanError
from topocompress.types import Preprocessing

PRUNE = ["prune", "tiny.safetensors", *BASE, "--criterion", "l1", "--no-controls", "--out", "run"]


def report() -> dict:
    return json.loads(Path("run/report.json").read_text(encoding="utf-8"))


@pytest.mark.usefixtures("place")
def test_a_size_with_a_file_in_8_bits(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import tinynet

    export_onnx(tinynet.Tiny().eval(), Path("tiny.onnx"), samples=torch.rand(2, 3, 16, 16))
    preprocessing = Preprocessing(input_shape=(3, 16, 16))
    write_metadata("tiny.onnx", metadata_of(f"sha256:{64 * '0'}", preprocessing))
    size = Path("tiny.onnx").stat().st_size
    assert run(monkeypatch, *PRUNE, "--target-size", f"{size - 100}B") == 2
    assert "cannot read --target-size" in capsys.readouterr().err
    wanted = str(round(0.8 * size))
    assert run(monkeypatch, *PRUNE, "--target-size", wanted, "--quantize", "int8", "--half", "--opset", "19") == 0
    found = report()
    files = {
        side: Path("run", name).stat().st_size for side, name in (("before", "original.onnx"), ("after", "model.onnx"))
    }
    assert {side: found[side]["file_bytes"] for side in files} == files
    assert found["after"]["file_bytes"] <= 0.8 * size < found["before"]["file_bytes"]
    assert found["before"]["file_bytes"] == pytest.approx(size, abs=100)  # less what the two say of classes and pixels
    assert found["half"]["measurement"]["file_bytes"] == Path("run/model.fp16.onnx").stat().st_size
    assert found["export"]["opset"] == 19
    assert found["budget"]["option"] == "--target-size"
    assert found["budget"]["probes"][0]["met"] is True
    assert found["quantized"]["measurement"]["file_bytes"] == Path("run/model.int8.onnx").stat().st_size
    assert found["plan"]["rule"]["target_size"] == int(wanted)
    assert found["quantized"]["message"] in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("place", "unexported")
def test_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--ratio", "0.5", "--finetune", "1", "--iterations", "2", "--round-to", "1"]
    assert run(monkeypatch, *PRUNE, *words) == 0
    found = report()
    assert found["finetune"]["iterations"] == 2
    assert [(entry["iteration"], entry["epoch"]) for entry in found["finetune"]["history"]] == [
        (1, 0),
        (1, 1),
        (2, 0),
        (2, 1),
    ]
    plan = json.loads(Path("run/plan.json").read_text(encoding="utf-8"))
    assert len(plan["plans"]) == 1  # the iterations together


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target-size", "big"], "cannot read --target-size 'big'"),
        (["--target-latency", "1.5"], "--target-latency 1.5 must lie between 0 and 1"),
        (["--ratio", "0.5", "--iterations", "2"], "no fine-tuning"),
        (["--ratio", "0.5", "--quantize", "fp8"], "--quantize 'fp8' is unknown"),
        (["--max-accuracy-drop", "1", "--ratio", "0.5"], "exactly one"),
        (["--target-size", "1GB"], "within --target-size 1e+03MB already"),
    ],
)
def test_what_is_refused(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *PRUNE, *words) == 2
    assert message in capsys.readouterr().err
    assert not Path("run").exists()


@pytest.mark.usefixtures("place")
def test_sweep(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", "tiny.safetensors", *BASE, "--criterion", "l1", "--round-to", "1", "--macs", "0.8,0.5"]
    assert run(monkeypatch, *words) == 0
    printed = capsys.readouterr().out
    content = json.loads(Path("sweep/sweep.json").read_text(encoding="utf-8"))
    assert [point["target"] for point in content["points"]] == [1.0, 0.8, 0.5]
    assert Path("sweep/sweep.png").stat().st_size > 1000
    for point in content["points"]:
        assert f"{100 * point['macs']:.1f} %" in printed
    points = {path: path.stat().st_mtime_ns for path in Path("sweep/points").iterdir()}
    assert len(points) == 3
    assert run(monkeypatch, *words) == 0
    assert {path: path.stat().st_mtime_ns for path in Path("sweep/points").iterdir()} == points


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("words", "alone"),
    [
        ([], 3),
        (["--finetune", "1"], 3),
        (["--no-reconstruct"], 0),
        (["--no-reconstruct", "--finetune", "1"], 1000),
    ],
)
def test_a_sweeps_criterion_knows_what_follows(words: list[str], alone: float, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def score_groups(_model: object, _groups: object, criterion: Criterion, *_more: object, **_options: object) -> None:
        asked.append(criterion.settings()["alone"])
        raise PlanError("far enough")

    monkeypatch.setattr("topocompress.workflows.selecting.score_groups", score_groups)
    assert run(monkeypatch, "sweep", "tiny.safetensors", *BASE, "--criterion", "persistence", *words) == 2
    assert asked == [alone]


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("macs", ["0.5,1.5", "half"])
def test_what_cannot_be_swept(macs: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "sweep", "tiny.safetensors", *BASE, "--macs", macs) == 2
    assert "cannot read --macs" in capsys.readouterr().err


@pytest.mark.usefixtures("place", "unexported")
def test_a_budget_that_is_not_kept_is_the_first_line_and_an_exit_code_and_the_files_are_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*PRUNE, "--max-accuracy-drop", "60"]
    assert run(monkeypatch, *words) == 0
    assert "is not kept to" not in capsys.readouterr().err
    monkeypatch.setattr("topocompress.reporting.budgets._reached", lambda *_: 61.0)
    assert run(monkeypatch, *words, "--force") == 3
    assert capsys.readouterr().err.startswith("Warning: --max-accuracy-drop 60 is not kept to: 61.00 points are lost")
    assert report()["budget"]["kept"] is False
    assert Path("run/model.onnx").exists()


@pytest.mark.usefixtures("place")
def test_what_cannot_be_judged_is_asked_back_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("topocompress.cli.opening.Opening.load", lambda *_, **__: pytest.fail("loaded"))
    for words in ([], ["--max-accuracy-drop", "1"]):
        assert run(monkeypatch, "prune", "tiny.safetensors", "--arch", "tinynet:Tiny", *words) == 2
        text = capsys.readouterr().err
        assert "topocompress prune tiny.safetensors --target-macs 0.5" in text


@pytest.mark.usefixtures("place")
def test_what_is_assumed_is_said_before_the_work_and_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("topocompress.workflows.compress.select", lambda _: (_ for _ in ()).throw(PlanError("later")))
    assert run(monkeypatch, *PRUNE, "--ratio", "0.5") == 2
    said = capsys.readouterr().out
    assert said.count("tinynet:Tiny") + said.count("tiny.safetensors: inputs 3 × 16 × 16, ") >= 1
    assert "20 samples to calibrate, 12 held out; cpu" in said
    assert said.count("assumed, as for ImageNet") == 1
