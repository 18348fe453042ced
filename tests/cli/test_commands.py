"""What the commands do when all is well."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from PIL import Image

import topocompress
from tests.helpers.commands import BASE, run
from topocompress.cli.reference import page

FILES = ["model.onnx", "model.safetensors", "original.onnx", "plan.json", "report.html", "report.json", "report.md"]
L1 = ["--ratio", "0.5", "--criterion", "l1"]


@pytest.mark.usefixtures("place")
def test_prune_writes_a_whole_run_and_can_be_repeated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prune", "tiny.safetensors", *BASE, "--ratio", "0.5", "--scale", "quantile:0.1", "--finetune", "1"]
    assert run(monkeypatch, *words) == 0
    out = Path("tiny-pruned")  # the default place, beside the model
    assert sorted(path.name for path in out.iterdir()) == FILES
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["after"]["macs"] == report["plan"]["macs_predicted"] < report["before"]["macs"]
    assert [control["criterion"] for control in report["controls"]] == ["random", "l1"]
    assert len(report["controls"][0]["accuracies"]) == 3
    assert report["environment"]["command"] == words
    printed = capsys.readouterr().out
    assert "Parameters" in printed
    assert "model.onnx" in printed

    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    session = ort.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    import tinynet

    pruned = topocompress.load(out, arch=tinynet.Tiny)
    assert pruned.body[0].out_channels == 4
    with torch.no_grad():
        np.testing.assert_allclose(session.run(None, {"input": images.numpy()})[0], pruned(images), atol=1e-5)

    assert run(monkeypatch, *words) == 2  # the place is taken
    assert "--force" in capsys.readouterr().err
    again = ["prune", str(out), *BASE, *L1, "--out", "twice"]
    assert run(monkeypatch, *again) == 0
    assert topocompress.load("twice", arch=tinynet.Tiny).body[0].out_channels == 2
    assert len(json.loads(Path("twice/plan.json").read_text(encoding="utf-8"))["plans"]) == 2


@pytest.mark.usefixtures("place")
def test_same_seed_same_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for out in ("first", "second"):
        assert run(monkeypatch, "prune", "tiny.safetensors", *BASE, *L1, "--finetune", "1", "--out", out) == 0
    for name in ("model.safetensors", "model.onnx", "original.onnx", "plan.json"):
        assert Path("first", name).read_bytes() == Path("second", name).read_bytes()


@pytest.mark.usefixtures("place", "unexported")
def test_without_data_photographs_stand_in(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tiny.safetensors", "--arch", "tinynet:Tiny", "--samples", "30", "--eval-samples", "20", *L1]
    assert run(monkeypatch, "prune", *words, "--out", "run") == 0
    assert "photographs" in capsys.readouterr().out
    report = json.loads(Path("run/report.json").read_text(encoding="utf-8"))
    assert report["data"]["labelled"] is False
    assert report["after"]["accuracy"] is None
    assert 0 <= report["after"]["agreement"] <= 1
    assert "photographs" in Path("run/report.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("place")
def test_dry_run_prints_the_plan_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "prune", "tiny.safetensors", *BASE, *L1, "--dry-run") == 0
    assert re.search(r"body\.0\s+8\s+4", capsys.readouterr().out)
    assert not Path("tiny-pruned").exists()


@pytest.mark.usefixtures("place", "unexported")
def test_great_loss_ends_with_remedies(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("topocompress.workflows.account.TOLERATED_LOSS", -1.0)
    words = ["prune", "tiny.safetensors", *BASE, "--max-betti", "8", "--scale", "quantile:0.1", "--out", "run"]
    assert run(monkeypatch, *words) == 0
    printed = capsys.readouterr().out
    assert "1. Fine-tune for 5 epochs" in printed
    assert "topocompress prune tiny.safetensors" in printed


@pytest.mark.usefixtures("place")
def test_score_writes_and_draws(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tiny.safetensors", *BASE, "--thresholds", "5,10", "--plot", "scores.png"]
    assert run(monkeypatch, "score", *words) == 0
    scores = json.loads(Path("scores.json").read_text(encoding="utf-8"))
    assert list(scores["layers"]) == ["body.0", "body.2"]
    layer = scores["layers"]["body.0"]
    assert np.add(layer["beta0"], layer["beta1"]).tolist() == layer["scores"]
    with Image.open("scores.png") as picture:
        assert picture.size[0] > 1000
    printed = capsys.readouterr().out
    assert "body.2" in printed
    assert ">10" in printed


def test_criteria_lists_the_built_in_ones(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "criteria") == 0
    printed = capsys.readouterr().out
    for name in ("betti", "l1", "random"):
        assert name in printed


def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "demo") == 0
    report = json.loads(Path("digits-pruned/report.json").read_text(encoding="utf-8"))
    assert report["after"]["accuracy"] > 0.95
    assert report["plan"]["channels_removed"] > 0
    assert "Accuracy" in capsys.readouterr().out


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    assert topocompress.__version__ in capsys.readouterr().out


def test_the_reference_page_is_current() -> None:
    stored = Path(__file__).parents[2] / "docs" / "cli.md"
    assert stored.read_text(encoding="utf-8") == page(), "run: python -m topocompress.cli.reference > docs/cli.md"


@pytest.mark.parametrize(("asked", "waits"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_of_torch_wait_without_spinning_unless_the_user_says_so(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, waits: str
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "")  # put back after the test
    monkeypatch.delenv("OMP_WAIT_POLICY") if asked is None else monkeypatch.setenv("OMP_WAIT_POLICY", asked)
    assert run(monkeypatch, "--version") == 0
    assert os.environ["OMP_WAIT_POLICY"] == waits
