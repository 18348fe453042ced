"""Scores that outlive their run: ``--resume``, a second run with another threshold, ``--no-cache``."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.helpers.commands import BASE, run
from tests.helpers.interrupting import interrupted_after
from tests.helpers.processes import python
from topocompress.scoring.store import ScoreStore

SCORE = ["score", "tiny.safetensors", *BASE, "--scale", "quantile:0.1"]
KILLED = """
import os, signal
from topocompress.scoring.store import ScoreStore

save = ScoreStore.save

def save_and_die(self, layer, scores):
    save(self, layer, scores)
    os.kill(os.getpid(), signal.SIGKILL)

ScoreStore.save = save_and_die
from topocompress.cli import main

main()
"""


@pytest.mark.usefixtures("place")
def test_a_killed_run_is_continued_and_gives_the_identical_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *SCORE, "--no-cache", "--out", "whole.json") == 0
    killed = python("-c", KILLED, *SCORE, folders=(Path.cwd(),), check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not Path("scores.json").exists()
    capsys.readouterr()

    assert run(monkeypatch, *SCORE, "--resume", "--out", "resumed.json") == 0

    assert "Layers taken from an interrupted run: 1." in capsys.readouterr().out
    assert Path("resumed.json").read_bytes() == Path("whole.json").read_bytes()


@pytest.mark.usefixtures("place")
def test_ctrl_c_says_what_is_kept_and_without_resume_it_is_not_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with interrupted_after(ScoreStore, "save"):
        assert run(monkeypatch, *SCORE) == 130
    assert "the layers that are finished are kept; --resume continues from there" in capsys.readouterr().err
    assert not Path("scores.json").exists()

    assert run(monkeypatch, *SCORE) == 0

    assert "interrupted run" not in capsys.readouterr().out


@pytest.mark.usefixtures("place")
def test_a_cache_that_does_not_verify_is_said_in_a_line_and_scored_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], own_cache: Path
) -> None:
    assert run(monkeypatch, *SCORE, "--out", "first.json") == 0
    for path in own_cache.rglob("*.json"):
        path.write_text(path.read_text(encoding="utf-8").replace("1", "2"), encoding="utf-8")
    capsys.readouterr()

    assert run(monkeypatch, *SCORE, "--out", "second.json") == 0

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Warning: not used, and done again: 2 files of ")
    assert Path("first.json").read_bytes() == Path("second.json").read_bytes()


@pytest.mark.usefixtures("place", "unexported")
def test_another_threshold_needs_no_scoring(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prune", "tiny.safetensors", *BASE, "--scale", "quantile:0.1", "--no-controls"]
    assert run(monkeypatch, *words, "--max-betti", "8", "--out", "first") == 0

    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("scored again")

    monkeypatch.setattr("topocompress.scoring.clouds.collect_clouds", refuse)
    assert run(monkeypatch, *words, "--max-betti", "9", "--out", "second") == 0

    first, second = (
        json.loads(Path(name, "report.json").read_text(encoding="utf-8"))["scoring"] for name in ("first", "second")
    )
    assert (first["layers_reused"], second["layers_reused"]) == (0, 2)
    assert first["layers"] == second["layers"]
    assert first["passes"] == 1


@pytest.mark.usefixtures("place")
def test_options_that_change_the_clouds_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, *SCORE) == 0
    exact = json.loads(Path("scores.json").read_text(encoding="utf-8"))
    assert run(monkeypatch, *SCORE, "--map-size", "4", "--sketch", "12", "--memory", "1MB", "--workers", "1") == 0
    smaller = json.loads(Path("scores.json").read_text(encoding="utf-8"))

    assert "map_size" not in exact["settings"]
    assert (smaller["settings"]["map_size"], smaller["settings"]["sketch"]) == (4, 12)
    assert exact["layers"] != smaller["layers"]


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--map-size", "0"], "a map size of 0"),
        (["--map-size", "half"], "a map size of 'half'"),
        (["--sketch", "-1"], "a sketch of -1"),
        (["--workers", "0"], "0 workers"),
        (["--memory", "lots"], "cannot read --memory"),
        (["--backend", "dionysus"], "unknown backend 'dionysus'"),
        (["--cluster", "tcp://127.0.0.1:1"], "no Dask scheduler answers"),
    ],
)
def test_what_makes_no_sense_is_refused(
    words: list[str], complaint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("topocompress.runtime.parallel._PATIENCE", "0.3s")
    assert run(monkeypatch, *SCORE, *words) == 2
    assert complaint in " ".join(capsys.readouterr().err.split())
    assert not Path("scores.json").exists()
