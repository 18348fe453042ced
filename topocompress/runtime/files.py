"""Writing results so that nothing half-written is ever seen under its final name."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from topocompress.errors import DataError, OutputError
from topocompress.runtime.locks import locked
from topocompress.runtime.outputs import Place, check_outputs, check_place
from topocompress.runtime.temporary import temporary_file

_STAGING, _RETIRED, _LOCK = ".topocompress", ".topocompress.old", ".topocompress.lock"
_LONGEST_SUFFIX = 12


def _refusal(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}: {error.strerror or error}",
        hint="Free some space or name another place with --out.",
    )


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it takes ``path``'s place, on any failure it is gone.

    What killed processes have left beside it goes.

    Raises:
        OutputError: The file cannot be written (missing rights, full disk, a link or a device).
    """
    target = Path(path)
    suffix = target.suffix if len(target.suffix.encode(errors="replace")) <= _LONGEST_SUFFIX else ""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary_file(target.parent, suffix) as temporary:
            yield temporary
            if target.is_symlink() or not target.is_dir():
                check_place(Place(target, "file"))
            temporary.replace(target)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise _refusal(target, error) from error


@contextlib.contextmanager
def atomic_directory(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[Path]:
    """Yield an empty staging directory beside ``path``; on success it becomes ``path``, else it is gone.

    One process at a time writes to ``path``. What one that was killed has left beside it is removed.

    Args:
        path: The final directory.
        force: Replace a run that is there; without it a directory that is not empty is refused at once.

    Raises:
        OutputError: The place is taken, or is being written to, or cannot be written.
    """
    target = Path(path)
    place = Place(target, "run", force=force)
    check_outputs([place])
    staging, retired, lock = (target.with_name(f".{target.name}{end}") for end in (_STAGING, _RETIRED, _LOCK))
    with _folder(target.parent):
        try:
            with locked(lock, target):
                _clear(target, staging, retired)
                try:
                    check_place(place)
                    staging.mkdir()
                    yield staging
                    _move(place, staging, retired)
                finally:
                    if retired.exists() and not target.exists():  # stopped between the two moves
                        retired.replace(target)
                    shutil.rmtree(staging, ignore_errors=True)
                    shutil.rmtree(retired, ignore_errors=True)
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise _refusal(target, error) from error


def _clear(target: Path, staging: Path, retired: Path) -> None:
    """Remove what a killed process has left; a run that it had moved aside comes back.

    Raises:
        OutputError: Something of that name is there that no run has made: a run has no folders.
    """
    for left in (staging, retired):
        if left.is_symlink() or (left.exists() and any(each.is_dir() for each in left.iterdir())):
            raise OutputError(
                f"{left} is in the way, which topocompress did not make",
                hint="Move it away, or name another place with --out.",
            )
    if retired.exists() and not target.exists():
        retired.replace(target)
    for left in (staging, retired):
        if left.exists():
            shutil.rmtree(left)


def _move(place: Place, staging: Path, retired: Path) -> None:
    """Put a finished directory in its place, if that may still be taken; else beside it, since it took work."""
    target = Path(place.path)
    try:
        check_place(place)
    except OutputError as error:
        numbered = (target.with_name(f"{target.name}-{number}") for number in itertools.count(2))
        beside = next(path for path in numbered if not os.path.lexists(path))
        staging.replace(beside)
        raise OutputError(
            f"{target} was taken while this run worked ({error.what}); the run is whole, in {beside}",
            hint="Move it where you want it.",
        ) from error
    if target.exists():
        target.replace(retired)
    staging.replace(target)


@contextlib.contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Make a folder; on failure it is gone again, and so are those above it that were made."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refusal(folder, error) from error
    try:
        yield
    except BaseException:
        for each in missing:
            with contextlib.suppress(OSError):  # something else lies there now
                each.rmdir()
        raise


def check_there(files: Sequence[Path]) -> None:
    """Refuse ONNX files that are missing.

    Raises:
        DataError: Names the first.
    """
    if missing := [file for file in files if not file.is_file()]:
        raise DataError(f"{missing[0]} is no file", hint="Give ONNX files, the one to compare with first.")
