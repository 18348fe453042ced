"""Commands in processes of their own, forked from one that has loaded torch, since importing it takes seconds."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from topocompress import cli


def start(
    words: Sequence[str], folder: Path, log: Path, settings: Mapping[str, str], *, largest: int | None = None
) -> int:
    """Run a command in a folder; returns its process, which leads a session of its own.

    Args:
        words: Words of the command line.
        folder: Its current directory.
        log: File for what it says.
        settings: Variables of its environment.
        largest: Bytes that a file of its may have.
    """
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _become(words, folder, log, settings, largest)
    return child


def _become(words: Sequence[str], folder: Path, log: Path, settings: Mapping[str, str], largest: int | None) -> None:
    """Be the command; does not return."""
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        out = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600) if largest is None else _piped(log)
        for descriptor in (1, 2):
            os.dup2(out, descriptor)
        if largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
        signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs in the background ignores it
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.environ.update(settings)
        tempfile.tempdir = None
        sys.argv = ["topocompress", *words]
        sys.stdout = open(1, "w", closefd=False, encoding="utf-8")  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False, encoding="utf-8")  # noqa: SIM115
        sys.path.insert(0, str(folder))
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        except BaseException:  # noqa: BLE001 - as the interpreter would
            import traceback

            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _piped(log: Path) -> int:
    """What is written to the descriptor goes to a file by another process, which has no limit."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(writing)
        with log.open("wb", buffering=0) as stream:
            while part := os.read(reading, 65_536):
                stream.write(part)
        os._exit(0)
    os.close(reading)
    return writing


def ended(child: int, seconds: float) -> int | None:
    """Exit code of a command; ``None`` if it still runs after so many seconds."""
    until = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            return None
        time.sleep(0.02)


def living(session: int) -> list[str]:
    """Names of the processes of a session, those that have ended left out."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline())[:200] or process.name())
    return found


def taken(child: int) -> float:
    """Processor time in seconds that a command, and those that it started, have taken so far."""
    total = 0.0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(child)
        times = process.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
        for each in process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                total += each.cpu_times().user + each.cpu_times().system
    return total


def spent() -> float:
    """Processor time in seconds of all commands that have ended."""
    times = psutil.Process().cpu_times()
    return float(times.children_user + times.children_system)
