"""``topocompress compare``: a table, two files, one sentence; a second call uses what is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.commands import BASE, run


@pytest.mark.usefixtures("place")
def test_compare(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "tiny.safetensors", *BASE, "--samples", "10", "--criteria", "l1,taylor+looks=2,random"]
    assert run(monkeypatch, *words, "--ratios", "0.25,0.5", "--seeds", "2") == 0
    printed = capsys.readouterr().out
    content = json.loads(Path("comparison/compare.json").read_text(encoding="utf-8"))
    assert content["recommendation"] in printed.replace("\n", "")
    assert "taylor+looks=2" in printed
    assert len(content["cells"]) == 12
    assert Path("comparison/compare.png").stat().st_size > 1000
    cells = {path: path.stat().st_mtime_ns for path in Path("comparison/cells").iterdir()}
    assert len(cells) == 12

    assert run(monkeypatch, *words, "--ratios", "0.25,0.5", "--seeds", "2") == 0
    assert {path: path.stat().st_mtime_ns for path in Path("comparison/cells").iterdir()} == cells
    assert json.loads(Path("comparison/compare.json").read_text(encoding="utf-8")) == content


@pytest.mark.usefixtures("place")
def test_a_setting_that_fine_tuning_changes_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", "tiny.safetensors", *BASE, "--samples", "10", "--criteria", "persistence+looks=1,l1"]
    assert run(monkeypatch, *words, "--ratios", "0.5", "--seeds", "1", "--finetune", "1", "--no-reconstruct") == 0
    assert "persistence+looks=1 took alone=1000" in capsys.readouterr().out.replace("\n", " ")
    assert json.loads(Path("comparison/compare.json").read_text(encoding="utf-8"))["adapted"] == [
        ["persistence+looks=1", "alone=1000"]
    ]


def test_fewer_samples_than_asked_for_are_shared_among_the_seeds(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--samples", "5000", "--seeds", "2", "--criteria", "l1", "--ratios", "0.5"]
    assert run(monkeypatch, "compare", "tiny.safetensors", *BASE, *words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "48 samples for calibration, where 10000 were wanted" in said
    assert "Each of the 2 sets has 24 calibration samples" in said
    assert json.loads((place / "comparison" / "compare.json").read_text())["samples"] == 24


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ratios", "0.5,2"], "--ratios"),
        (["--ratios", "half"], "--ratios"),
        (["--criteria", "l1,l7"], "unknown criterion"),
        (["--criteria", "l1@global"], "common unit"),
    ],
)
def test_what_cannot_be_compared(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "compare", "tiny.safetensors", *BASE, "--samples", "10", *words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("criterion", ["persistence+looks=2", "hrank+samples=5", "l2"])
def test_score_shows_every_kind(
    criterion: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "score", "tiny.safetensors", *BASE, "--criterion", criterion, "--plot", "scores.png") == 0
    printed = capsys.readouterr().out
    assert "body.2" in printed
    assert {"persistence+looks=2": "3 passes over 20 samples.", "hrank+samples=5": "1 pass over 5 samples."}.get(
        criterion, ""
    ) in printed
    assert json.loads(Path("scores.json").read_text(encoding="utf-8"))["criterion"] == criterion.partition("+")[0]


@pytest.mark.usefixtures("place", "unexported")
def test_a_run_by_persistence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prune", "tiny.safetensors", *BASE, "--criterion", "persistence", "--ratio", "0.5", "--out", "run"]
    assert run(monkeypatch, *words) == 0
    report = json.loads(Path("run/report.json").read_text(encoding="utf-8"))
    assert report["scoring"]["settings"]["looks"] == 9
    assert [control["criterion"] for control in report["controls"]] == ["random", "l1"]
    assert "Accuracy" in capsys.readouterr().out


@pytest.mark.usefixtures("place")
def test_prune_by_settings_and_globally(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prune", "tiny.safetensors", *BASE, "--target-macs", "0.6", "--dry-run"]
    assert run(monkeypatch, *words, "--criterion", "persistence+looks=2", "--allocation", "global") == 0
    assert "channels go" in capsys.readouterr().out
    assert run(monkeypatch, *words, "--criterion", "l1", "--allocation", "global") == 2
    assert "common unit" in capsys.readouterr().err
    ratio = ["prune", "tiny.safetensors", *BASE, "--ratio", "0.5", "--dry-run"]
    assert run(monkeypatch, *ratio, "--orientation", "inverse", "--per-class") == 0
    assert run(monkeypatch, *ratio, "--orientation", "inverse", "--criterion", "l1") == 2
    assert "for betti" in capsys.readouterr().err
