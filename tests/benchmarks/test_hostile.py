"""The fast share of the harness of hostile inputs, and that it sees harm where there is some."""

import collections
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.hostile.case import Case
from benchmarks.hostile.cases import table
from benchmarks.hostile.delivered import delivered
from benchmarks.hostile.poison import POISONS
from benchmarks.hostile.summary import lines, summary

SEEN = """
import sys
from pathlib import Path
from benchmarks.hostile import bounded, commands
from benchmarks.hostile.case import Case

folder, harms = Path(sys.argv[1]), eval(sys.argv[2])
for name, body in harms.items():
    (folder / "m.pt").write_bytes(b"weights")
    bounded.SECONDS = 1.0 if name == "hung" else 60.0
    commands.cli.main = lambda: exec(body)
    print(bounded.outcome(Case(kind="", name="", words=()), folder)[0])
"""
HARM = {
    "lost": "Path('m.pt').write_bytes(b'')",
    "executed": "Path('executed').write_text('x')",
    "half-written": "Path('.run.topocompress').mkdir()",
    "traceback": "raise KeyError('x')",
    "raw": "print(chr(27) + '[31mred')",
    "not as expected": "pass",
    "as expected": "sys.exit(2)",
    "hung": "bounded.time.sleep(100)",
    "over memory": "x = bytearray(b'x') * (bounded.BYTES + 1); bounded.time.sleep(100)",
}


def test_harm_is_seen(tmp_path):
    command = [sys.executable, "-c", SEEN, str(tmp_path), repr(HARM)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.split("\n")[:-1] == list(HARM)


def test_the_table_is_large_and_names_each_case_once():
    cases = table()
    assert len(cases) >= 300
    twice = [name for name, count in collections.Counter((case.kind, case.name) for case in cases).items() if count > 1]
    assert not twice
    assert all(isinstance(case, Case) for case in cases)


def test_the_fast_share_does_no_harm():
    command = [sys.executable, "-m", "benchmarks.hostile", "--quick", "outputs", "runs"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
    found = {row[0]: row[1:] for row in rows if row and row[0] in ("outputs", "runs")}
    assert set(found) == {"outputs", "runs"}
    assert all(row[0] == row[1] and set(row[2:]) == {"0"} for row in found.values()), done.stdout


def test_what_went_wrong_is_counted_and_named():
    kill = {
        "moment": 0.5,
        "ended": -9,
        "processes": [],
        "left": ["x"],
        "continued": 0,
        "different": [],
        "left_after": [],
    }
    kill |= {"kept": 3, "again": 0}
    poison = {"entries": 2, "told": 1, "continued": 0, "different": [], "left_after": []}
    rows = {
        "machine": {},
        "input/runs/a": {"outcome": "as expected"},
        "kill/prune/SIGKILL/0": kill,
        "poison/prune/cut": poison,
        "together/prune/one out": {"right": True, "different": [], "left_after": []},
    }
    good = "1 hostile inputs, 0 not as expected; 1 killed runs, 0 that ended otherwise when they were continued; "
    assert summary(rows) == f"{good}2 runs at once or with spoiled caches, 0 that went wrong"
    assert not [line for line in lines(rows) if line.startswith(("input/", "kill/", "poison/", "together/"))]
    wrong = {
        "input/runs/a": {"outcome": "lost"},
        "kill/prune/SIGKILL/0": {**kill, "different": ["plan.json"]},
        "kill/prune/SIGKILL/1": {**kill, "again": 1},
        "kill/prune/SIGTERM/0": {**kill, "ended": 130},
        "kill/prune/SIGTERM/1": {**kill, "ended": "not"},
        "poison/prune/cut": {**poison, "told": 0},
        "together/prune/one out": {"right": False, "different": [], "left_after": []},
    }
    named = [line.partition(":")[0] for line in lines(wrong) if line.startswith(("input", "kill", "poison", "tog"))]
    assert named == list(wrong)


@pytest.mark.parametrize("poison", POISONS)
def test_a_spoiled_entry_is_another(poison, tmp_path):
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for number, file in enumerate(files):
        file.write_text(json.dumps({"layer": "a", "values": [0.25, 0.5 + number], "macs": 7}))
    before = files[0].read_bytes()
    POISONS[poison](files[0], files)
    assert not files[0].is_file() or files[0].read_bytes()[:1000] != before or files[0].stat().st_size > len(before)


def test_delivered_files_are_compared_without_times(tmp_path):
    for name, seconds in (("one", 1.0), ("two", 2.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(json.dumps({"a": [{"seconds": seconds, "x": 1}]}))
        (tmp_path / name / "report.md").write_text(str(seconds))
        (tmp_path / name / "plan.json").write_text("{}")
    first, second = (delivered(tmp_path / name) for name in ("one", "two"))
    assert first == second
    assert set(first) == {"report.json", "plan.json"}
    (tmp_path / "two" / "report.json").write_text(json.dumps({"a": [{"seconds": 1.0, "x": 2}]}))
    assert delivered(tmp_path / "two") != first
