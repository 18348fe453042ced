"""A place that one process at a time writes to; the system lets go of it when the process ends, however it ends."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from topocompress.errors import OutputError

if sys.platform == "win32":
    import msvcrt

    def _take(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _take(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def try_lock(descriptor: int) -> Literal["ours", "other", "none"]:
    """Lock an open file for this process, or say that another holds it, or that this file system has no locks."""
    try:
        _take(descriptor)
    except (BlockingIOError, PermissionError):
        return "other"
    except OSError:
        return "none"
    return "ours"


@contextlib.contextmanager
def locked(file: Path, target: Path) -> Iterator[None]:
    """Hold a lock file, which is removed at the end; one that a killed process has left is taken over.

    Raises:
        OutputError: Another process holds it: it is writing ``target``.
    """
    descriptor = _held(file)
    if descriptor is None:
        raise OutputError(
            f"another process is writing {target} just now", hint="Wait for it, or name another place with --out."
        )
    try:
        yield
    finally:
        if sys.platform == "win32":  # where no open file can be removed
            os.close(descriptor)
            file.unlink(missing_ok=True)
        else:
            file.unlink(missing_ok=True)
            os.close(descriptor)


def _held(file: Path) -> int | None:
    """A descriptor of the locked file; ``None`` where another process holds it."""
    while True:
        descriptor = os.open(file, os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o666)
        if try_lock(descriptor) == "other":
            os.close(descriptor)
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(file.stat(), os.fstat(descriptor)):  # not one that its holder has removed meanwhile
                return descriptor
        os.close(descriptor)
