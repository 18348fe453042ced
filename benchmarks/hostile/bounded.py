"""One case in a process of its own, bounded in time and memory, and what came of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import stat
import time
from pathlib import Path

import psutil

from benchmarks.hostile.case import Case
from benchmarks.hostile.commands import ended, living, start
from benchmarks.hostile.place import EXECUTED, rewritten
from benchmarks.hostile.summary import OUTCOMES

SECONDS, BYTES = 60.0, 2 * 10**9
_RAW = (b"\x1b[31m", b"\x1b]0;", b"\x07", b"\xe2\x80\xae")


def contents(folder: Path) -> dict[str, str]:
    """What lies in a folder: name → what it is, files by their hash."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if "__pycache__" in path.parts:
            continue
        if stat.S_ISREG(mode):
            with path.open("rb") as stream:
                found[str(path)] = hashlib.file_digest(stream, "sha256").hexdigest()
        else:
            found[str(path)] = str(path.readlink()) if stat.S_ISLNK(mode) else str(stat.S_IFMT(mode))
    return found


def outcome(case: Case, folder: Path) -> tuple[str, str]:
    """Run a case in a folder; what came of it, and what it said. The folder is left as it was."""
    if case.change is not None:
        rewritten(folder / "run", folder / "spoiled", case.change)
    before = contents(folder)
    code, said, why = _run(case, folder)
    after = contents(folder)
    new = sorted(after.keys() - before.keys())
    for path in map(Path, new[::-1]):
        with contextlib.suppress(OSError):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    shutil.rmtree(folder / "spoiled", ignore_errors=True)
    harm = {
        "executed": any(Path(path).name == EXECUTED for path in new),
        "lost": any(after.get(path) != value for path, value in before.items()),
        why: bool(why),
        "traceback": "Traceback (most recent call last)" in said,
        "half-written": any(".topocompress" in path for path in new) or (code == 2 and bool(new)),
        "raw": any(raw in said.encode(errors="surrogateescape") for raw in _RAW),
        "not as expected": (case.refused is not None and code != (2 if case.refused else 0))
        or bool(case.unsaid and case.unsaid in said),
    }
    return next((name for name, found in harm.items() if found), OUTCOMES[0]), said


def _run(case: Case, folder: Path) -> tuple[int, str, str]:
    """Exit code, what was said, and which bound was broken, if one was."""
    log = folder.parent / "said"
    child = start(case.words, folder, log, {"TOPOCOMPRESS_CACHE": str(folder.parent / "cache")}, largest=case.largest)
    started, why = time.monotonic(), ""
    while (code := ended(child, 0.0)) is None:
        if time.monotonic() - started > SECONDS:
            why = "hung"
        elif _memory(child) > BYTES:
            why = "over memory"
        if why:
            os.killpg(child, signal.SIGKILL)
            code = ended(child, SECONDS)
            break
        time.sleep(0.02)
    while case.largest is not None and living(child) and time.monotonic() - started < SECONDS:
        time.sleep(0.02)  # until all that was said is written
    said = log.read_bytes().decode(errors="surrogateescape")
    return code or 0, said, why


def _memory(child: int) -> int:
    """Bytes that a process and those it started hold."""
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(child)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += each.memory_info().rss
    return total
