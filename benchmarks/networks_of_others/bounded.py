"""A function in a process of its own, bounded in time and memory; forked, since importing torch takes seconds."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a process may take.

    Attributes:
        seconds: Wall time.
        memory: Bytes that it holds.
    """

    seconds: float
    memory: int


def bounded(work: Callable[[], None], log: Path, limits: Limits) -> str:
    """Run a function in a process that knows what this one has imported; why it did not end well, or nothing.

    Args:
        work: What is to be done; what it prints goes to the file.
        log: The file.
        limits: Where it is stopped.
    """
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _become(work, log)
    started, why = time.monotonic(), ""
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() - started > limits.seconds:
            why = f"stopped after {limits.seconds:g} s"
        elif _memory(child) > limits.memory:
            why = f"stopped when it held more than {limits.memory / 1e9:.1f} GB"
        if why:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return why
        time.sleep(0.05)
    code = os.waitstatus_to_exitcode(status)
    return "" if code == 0 else f"exit status {code}: {_last_line(log)}"


def _become(work: Callable[[], None], log: Path) -> None:
    """Do the work and end; does not return."""
    code = 1
    try:
        os.setsid()
        out = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        for descriptor in (1, 2):
            os.dup2(out, descriptor)
        sys.stdout = open(1, "w", closefd=False, encoding="utf-8")  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False, encoding="utf-8")  # noqa: SIM115
        try:
            work()
            code = 0
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
            print(f"{type(error).__name__}: {error}")
        sys.stdout.flush()
    finally:
        os._exit(code)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def _memory(child: int) -> int:
    with contextlib.suppress(psutil.Error):
        return int(psutil.Process(child).memory_info().rss)
    return 0
