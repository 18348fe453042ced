"""Commands run as processes that are limited in time and memory, a few at a time, and never left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_POLL_SECONDS = 0.2
_MEMORY_SECONDS = 2.0  # adding up what processes hold takes tens of milliseconds


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What each command may take, with all the processes that it starts.

    Attributes:
        seconds: Wall time.
        memory: Bytes that its processes hold together; pages that they share count once.
    """

    seconds: float
    memory: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a command ended.

    Attributes:
        status: Its exit status.
        stopped: Why it was stopped; empty if it ended by itself.
        output: What it printed.
        complaint: The last line on its standard error.
        seconds: How long it ran.
        peak: Bytes that its processes were seen to hold together.
    """

    status: int
    stopped: str
    output: str
    complaint: str
    seconds: float
    peak: int


def run_children(
    commands: Mapping[str, Sequence[str]], *, jobs: int, limits: Limits, finished: Callable[[str, Outcome], None]
) -> None:
    """Run commands, ``jobs`` at a time; whatever ends this function ends them, their own children included.

    Args:
        commands: Name → command line. Each gets a folder of its own for temporary files, which goes when it ends.
        jobs: How many run at the same time.
        limits: For each of them.
        finished: Called with name and outcome as each ends.
    """
    waiting, running = list(commands.items()), list[_Child]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_Child(*waiting.pop(0), limits))
            for child in list(running):
                if outcome := child.poll():
                    running.remove(child)
                    child.end()
                    finished(child.name, outcome)
            time.sleep(_POLL_SECONDS)
    finally:
        for child in running:
            child.end()


class _Child:
    def __init__(self, name: str, command: Sequence[str], limits: Limits) -> None:
        self.name, self._limits = name, limits
        self._folder = tempfile.TemporaryDirectory(prefix="zoo-", ignore_cleanup_errors=True)
        self._said, self._complained = (Path(self._folder.name, each) for each in ("said", "complained"))
        self._started, self._peak, self._looked, self._now = time.monotonic(), 0, 0.0, 0
        with self._said.open("wb") as said, self._complained.open("wb") as complained:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=complained,
                env={**os.environ, "TMPDIR": self._folder.name},
                start_new_session=True,  # a group to end it by
            )

    def poll(self) -> Outcome | None:
        status, stopped = self._process.poll(), ""
        seconds = time.monotonic() - self._started
        if status is None:
            if seconds - self._looked > _MEMORY_SECONDS:
                self._looked, self._now = seconds, _held(self._process.pid)
                self._peak = max(self._peak, self._now)
            if seconds > self._limits.seconds:
                stopped = f"stopped after {self._limits.seconds:g} s"
            elif self._now > self._limits.memory:
                stopped = f"stopped when it held more than {self._limits.memory / 1e9:.1f} GB"
            if not stopped:
                return None
            self._kill()
            status = self._process.wait()
        lines = self._complained.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return Outcome(
            status=status,
            stopped=stopped,
            output=self._said.read_text(encoding="utf-8", errors="replace"),
            complaint=lines[-1] if lines else "",
            seconds=seconds,
            peak=self._peak,
        )

    def end(self) -> None:
        self._kill()
        self._process.wait()
        self._folder.cleanup()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # nobody is left in the group
            os.killpg(self._process.pid, signal.SIGKILL)


def _held(pid: int) -> int:
    """Bytes that a process and those it has started hold."""
    total = 0
    with contextlib.suppress(psutil.Error):
        tree = psutil.Process(pid)
        for each in [tree, *tree.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += each.memory_full_info().pss
    return total
