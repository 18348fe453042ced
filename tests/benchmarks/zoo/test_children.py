"""Processes under limits."""

import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.zoo import children
from benchmarks.zoo.children import Limits, run_children

GENEROUS = Limits(seconds=600, memory=10**12)


SLEEPER = ["sh", "-c", "sleep 600 & echo $!; wait"]


SAYS_AND_FAILS = "import sys; print('{\"step\": \"build\"}'); print('first'); sys.exit('what went wrong')"


def python(code):
    return [sys.executable, "-c", code]


def alive(pid):
    """Whether a process that was killed is still there; on a busy machine it may take a moment to go."""
    try:
        process = psutil.Process(pid)
        psutil.wait_procs([process], timeout=30)
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_what_a_process_says_and_how_it_ends_is_reported():
    found = {}
    run_children(
        {"a": python("print(1)"), "b": python(SAYS_AND_FAILS)}, jobs=2, limits=GENEROUS, finished=found.__setitem__
    )
    assert (found["a"].status, found["a"].output, found["a"].complaint) == (0, "1\n", "")
    assert (found["b"].status, found["b"].complaint, found["b"].stopped) == (1, "what went wrong", "")


def test_a_process_that_takes_too_long_is_ended_with_its_children():
    found = {}
    run_children({"slow": SLEEPER}, jobs=1, limits=Limits(seconds=2, memory=10**12), finished=found.__setitem__)
    assert found["slow"].stopped == "stopped after 2 s"
    assert not alive(int(found["slow"].output))


def test_a_process_that_takes_too_much_memory_is_ended(monkeypatch):
    monkeypatch.setattr(children, "_MEMORY_SECONDS", 0.1)
    found = {}
    greedy = python(
        "import time; held = bytearray(300_000_000); held[::4096] = b'1' * len(held[::4096]); time.sleep(600)"
    )
    run_children({"greedy": greedy}, jobs=1, limits=Limits(seconds=600, memory=2 * 10**8), finished=found.__setitem__)
    assert found["greedy"].stopped == "stopped when it held more than 0.2 GB"
    assert found["greedy"].peak > 2 * 10**8


def test_whatever_ends_the_run_ends_all_processes(tmp_path):
    told = tmp_path / "pid"
    sleeper = ["sh", "-c", f"sleep 600 & echo $! > '{told}'; wait"]
    waits = f"""
import pathlib, time
told = pathlib.Path({str(told)!r})
while not told.exists() or not told.read_text():
    time.sleep(0.01)
"""

    def interrupt(_name, _outcome):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_children({"a": sleeper, "b": python(waits)}, jobs=2, limits=GENEROUS, finished=interrupt)
    assert not alive(int(told.read_text()))


def test_temporary_files_of_a_process_go_with_it():
    found = {}
    code = "import tempfile; print(tempfile.mkdtemp())"
    run_children({"a": python(code)}, jobs=1, limits=GENEROUS, finished=found.__setitem__)
    assert not Path(found["a"].output.strip()).exists()
