"""A handful of images is enough for what needs none, and what is too few is refused before the work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.commands import refused, run
from tests.helpers.imagesets import write_images

TINY = ["tiny.safetensors", "--arch", "tinynet:Tiny", "--data", "imagefolder:few", "--no-cache"]


@pytest.mark.parametrize("criterion", ["l1", "l2", "fpgm", "random"])
def test_criteria_of_weights_take_a_handful(
    criterion: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(place / "few", 5)
    words = ["prune", *TINY, "--criterion", criterion, "--ratio", "0.5"]
    if criterion == "l1":
        assert run(monkeypatch, *words, "--out", "out") == 0
        report = json.loads((place / "out" / "report.json").read_text())
        assert report["data"]["samples"] == {"calibration": 4, "train": 0, "evaluation": 1}
        assert any("4 samples for calibration, where 1000" in line for line in report["warnings"])
        assert any("one is 100 points" in line for line in report["warnings"])
    else:
        assert run(monkeypatch, *words, "--dry-run") == 0
    assert "4 samples for calibration, where 1000 were wanted" in " ".join(capsys.readouterr().out.split())


def test_a_small_folder_is_fine_tuned_on_what_calibrates(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prune", *TINY[:4], "imagefolder:photos", "--no-cache", "--criterion", "l1", "--ratio", "0.5"]
    assert run(monkeypatch, *words, "--finetune", "1", "--no-controls", "--out", "out") == 0
    report = json.loads((place / "out" / "report.json").read_text())
    assert report["data"]["samples"] == {"calibration": 48, "train": 0, "evaluation": 12}
    assert "Fine-tuned on the calibration samples, for want of others." in report["warnings"]
    capsys.readouterr()


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_for_anything(
    count: int, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(place / "few", count)
    said = refused(monkeypatch, capsys, "prune", *TINY, "--criterion", "l1", "--ratio", "0.5")
    assert "too few to calibrate and evaluate" in said


def test_a_threshold_beyond_what_is_there_is_refused_before_the_work(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(place / "few", 50)

    def scored(*_: object, **__: object) -> None:
        raise AssertionError("scored")

    monkeypatch.setattr("topocompress.workflows.compress.select", scored)
    said = refused(monkeypatch, capsys, "prune", *TINY, "--max-betti", "300")
    assert "40 calibration samples cannot give a Betti number above 300" in said
    assert "300 among 1000 samples are about 12 among 40" in said
