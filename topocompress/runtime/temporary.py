"""Temporary files and folders, locked while their process lives: one that is not was left by a killed process and goes.

Where the system has no such locks, nothing of others is removed.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from topocompress.runtime.locks import try_lock

_FILE = re.compile(r"\.topocompress\.[0-9a-f]{8}(\.[^.]+)?")
_FOLDER = re.compile(r"topocompress-[0-9a-f]{8}")


@contextlib.contextmanager
def temporary_file(folder: Path, suffix: str) -> Iterator[Path]:
    """A file of a new name in a folder, empty at first; it is gone at the end, unless it was moved.

    Args:
        folder: Where; it is there. Such files that killed processes have left in it are removed.
        suffix: End of the name.

    Raises:
        OSError: It cannot be made.
    """
    _clear(folder, _FILE)
    while True:
        path = folder / f".topocompress.{secrets.token_hex(4)}{suffix}"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        if _hold(descriptor, path):
            break
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        _close(descriptor)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder among the system's temporary ones, gone at the end; those of killed processes are removed."""
    above = Path(tempfile.gettempdir())
    _clear(above, _FOLDER)
    while True:
        path = above / f"topocompress-{secrets.token_hex(4)}"
        path.mkdir(mode=0o700)
        descriptor = os.open(path, os.O_RDONLY) if hasattr(os, "O_DIRECTORY") else -1
        if descriptor < 0 or _hold(descriptor, path):
            break
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        _close(descriptor)


def _hold(descriptor: int, path: Path) -> bool:
    """Lock something new; false where another process has taken it for left, and removed it, before it was locked."""
    if try_lock(descriptor) == "other":
        _close(descriptor)
        return False
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(path.lstat(), os.fstat(descriptor)):
            return True
    _close(descriptor)
    return False


def _close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)


def _clear(folder: Path, name: re.Pattern[str]) -> None:
    """Remove files or folders that this user's processes have made and that no process holds any more."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if name.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    _remove(Path(entry.path), directory=name is _FOLDER)


def _remove(path: Path, *, directory: bool) -> None:
    found = path.lstat()
    right = stat.S_ISDIR if directory else stat.S_ISREG
    if not right(found.st_mode) or not hasattr(os, "getuid") or found.st_uid != os.getuid():
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        if try_lock(descriptor) == "ours" and os.path.samestat(path.lstat(), os.fstat(descriptor)):
            if directory:
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
    finally:
        os.close(descriptor)
