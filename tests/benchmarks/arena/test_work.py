"""Processes that share the rows."""

import json
import sys

import pytest

from benchmarks.arena import work
from benchmarks.arena.work import Worker, share_out


def test_a_row_that_fails_leaves_the_others(setting, monkeypatch, capsys):
    def measured(_self, row):
        if row[1] == "bad":
            raise ValueError("nothing there")
        return {"macs": 1}

    monkeypatch.setattr(Worker, "measured", measured)
    rows = [("oracle", "bad"), ("oracle", "good"), ("oracle", "late")]
    Worker(setting, {}).work(rows[:2], float("inf"))
    Worker(setting, {}).work(rows, 0)

    results = work.Results(setting.work / "results.json")
    assert results.collect(setting.work / "done") == 1
    assert results.collect(setting.work / "done") == 0
    assert json.loads((setting.work / "results.json").read_text()) == {"oracle/good": {"macs": 1}}
    assert "nothing there" in capsys.readouterr().out


def test_a_process_that_lost_its_gpu_gives_its_row_back(setting, monkeypatch):
    def measured(_self, _row):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(Worker, "measured", measured)
    for _ in range(2):  # the second finds it free
        with pytest.raises(SystemExit):
            Worker(setting, {}).work([("oracle", "large")], float("inf"))


WORKER = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
for row in json.loads(pathlib.Path(sys.argv[2]).read_text()):
    tried = folder / f"tried-{row[0]}"
    if row[0] == "fragile" and not tried.exists():
        tried.touch()
        sys.exit(1)
    (folder / f"{row[0]}.json").write_text("1")
"""


def test_workers_are_started_again_and_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(work, "POLL", 0.02)
    done = tmp_path / "done"
    done.mkdir()
    results = work.Results(tmp_path / "results.json")

    share_out(
        [[("fragile",)], [("sound",)]],
        [sys.executable, "-c", WORKER, str(done)],
        tmp_path,
        lambda: results.collect(done),
    )

    assert set(results.rows) == {"fragile", "sound"}
    with pytest.raises(TimeoutError):
        share_out([[]], [sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, _stop)


def _stop():
    raise TimeoutError
