"""Writing results so that nothing half-written is ever seen under its final name."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from topocompress.errors import DataError, OutputError

_PICTURES = (".png", ".svg", ".pdf")
MANIFEST = "plan.json"
"""What describes a run directory."""


def is_run(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a directory with a run description in it."""
    return (Path(path) / MANIFEST).is_file()


def _refusal(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}: {error.strerror or error}",
        hint="Free some space or name another place with --out.",
    )


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it takes ``path``'s place, on any failure it is gone.

    Raises:
        OutputError: The file cannot be written (missing rights, full disk).
    """
    target = Path(path)
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(target)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise _refusal(target, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[Path]:
    """Yield an empty staging directory beside ``path``; on success it becomes ``path``, else it is gone.

    Args:
        path: The final directory.
        force: Replace an existing directory; without it one that exists and is not empty is refused at once.

    Raises:
        OutputError: The place is taken or cannot be written.
    """
    target = Path(path)
    check_free(target, force=force)
    suffix = secrets.token_hex(4)
    staging = target.with_name(f".{target.name}.{suffix}")
    retired = target.with_name(f".{target.name}.{suffix}.old")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir()
        yield staging
        if target.exists():
            target.replace(retired)
        staging.replace(target)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise _refusal(target, error) from error
    finally:
        if retired.exists() and not target.exists():  # stopped between the two moves: the old one comes back
            retired.replace(target)
        shutil.rmtree(staging, ignore_errors=True)
        shutil.rmtree(retired, ignore_errors=True)


def check_free(path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Refuse a place that is taken or not writable, before any work is spent.

    Raises:
        OutputError: ``path`` exists and ``force`` is not set, is a file, or its parent is not writable.
    """
    target = Path(path)
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target} is a file, not a directory", hint="Name another place with --out.")
    if target.is_dir() and any(target.iterdir()) and not force:
        raise OutputError(f"{target} already exists", hint="Add --force to replace it, or name another --out.")
    _check_parent(target)


def check_file(path: str | os.PathLike[str]) -> None:
    """Refuse a file that cannot be written, before any work is spent.

    Raises:
        OutputError: ``path`` is a directory, or its parent is not writable.
    """
    target = Path(path)
    if target.is_dir():
        raise OutputError(f"{target} is a directory, not a file", hint="Name a file.")
    _check_parent(target)


def check_there(files: Sequence[Path]) -> None:
    """Refuse ONNX files that are missing.

    Raises:
        DataError: Names the first.
    """
    if missing := [file for file in files if not file.is_file()]:
        raise DataError(f"{missing[0]} is no file", hint="Give ONNX files, the one to compare with first.")


def check_picture(path: str | os.PathLike[str]) -> None:
    """Refuse a picture format that cannot be drawn, before any work is spent.

    Raises:
        OutputError: The ending is not supported.
    """
    if Path(path).suffix.lower() not in _PICTURES:
        raise OutputError(f"cannot draw {path}: unknown picture format", hint=f"Use one of {', '.join(_PICTURES)}.")


def _check_parent(target: Path) -> None:
    parent = target.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise OutputError(f"{parent} is not a writable directory", hint="Name another place with --out.")
