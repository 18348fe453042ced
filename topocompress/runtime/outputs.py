"""What is ours to write: one function, :func:`check_outputs`, says for every command whether an output may be written.

An output is never an input, never above one or inside one that is a folder, never a link or a device. A directory is
replaced only if it holds a run of ours; a file only by one of its own kind.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from topocompress.errors import OutputError

MANIFEST = "plan.json"
"""What describes a run directory."""
FORMAT = "topocompress-run"
"""What a run description says that it is."""
MANIFEST_BYTES = 64 * 2**20
"""A run description is no larger."""

_BEGINNINGS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
PICTURES = tuple(_BEGINNINGS)
"""Endings of the pictures that can be drawn."""
_ADDED = 24
"""Bytes that are added to a name while something is written."""
_MARGIN = {"run": 32 * 2**20, "folder": 32 * 2**20, "file": 2**20, "picture": 2**20}
"""Bytes that must be free besides what is known to be written."""


@dataclass(frozen=True)
class Place:
    """Where something is to be written.

    Attributes:
        path: As the user wrote it.
        kind: ``run`` is a directory that appears as a whole, ``folder`` one that results are put into; ``file`` is a
            JSON file, ``picture`` one that is drawn.
        force: Whether a run that is there already may be replaced.
        option: What the user wrote it behind, for messages.
    """

    path: str | os.PathLike[str]
    kind: Literal["run", "folder", "file", "picture"]
    force: bool = False
    option: str = "--out"

    def refused(self, why: str, hint: str = "") -> OutputError:
        """The error of a place that is not taken."""
        name = ascii(os.fspath(self.path)) if not _encodes(self.path) else os.fspath(self.path)
        return OutputError(f"{name} {why}", hint=hint or f"Name another place with {self.option}.")


def folder_of(out: str | os.PathLike[str], name: str, parts: str) -> list[Place]:
    """A folder of results and what lies in it by fixed names: ``name.json``, ``name.png`` and the folder ``parts``."""
    return [
        Place(out, "folder"),
        Place(Path(out) / parts, "folder"),
        Place(Path(out) / f"{name}.json", "file"),
        Place(Path(out) / f"{name}.png", "picture"),
    ]


def check_outputs(places: Sequence[Place], *, inputs: Sequence[str | os.PathLike[str]] = (), room: int = 0) -> None:
    """Refuse what must not be written, or surely cannot be, before any work.

    Args:
        places: Everything that a command writes.
        inputs: Files and folders that it reads; what does not exist is none.
        room: Bytes that it writes, as far as they are known.

    Raises:
        OutputError: Says which place is refused, why, and what to do.
    """
    read = [found for each in inputs if (found := _existing(each)) is not None]
    for number, place in enumerate(places):
        parent = _check_name(place)
        check_place(place)
        if place.kind == "picture":
            check_picture(place.path)
        for source in read:
            _check_apart(place, source)
        for other in places[:number]:
            _check_together(place, other)
        if place.kind in ("file", "picture"):
            _check_same_kind(place)
        if (free := _free(parent)) < (wanted := room + _MARGIN[place.kind]):
            raise place.refused(
                f"would take {wanted / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free there",
                f"Free some space or name another place with {place.option}.",
            )


def check_place(place: Place) -> None:
    """The part of :func:`check_outputs` that others can change meanwhile; asked again when a result takes its place.

    Raises:
        OutputError: The place is a link or a device, or taken by what must not be replaced.
    """
    path = Path(place.path)
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise place.refused(f"cannot be written: {error.strerror or error}") from error
    directory = place.kind in ("run", "folder")
    if stat.S_ISLNK(mode):
        raise place.refused("is a link", f"Name what it points to, or another place with {place.option}.")
    if directory and not stat.S_ISDIR(mode):
        raise place.refused(f"is a {'file' if stat.S_ISREG(mode) else 'device'}, not a directory")
    if not directory and not stat.S_ISREG(mode):
        raise place.refused(f"is a {'directory' if stat.S_ISDIR(mode) else 'device'}, not a file", "Name a file.")
    if directory and _holds(path, Path.cwd()):
        raise place.refused("is the current directory, or above it")
    if place.kind == "run" and (entries := sorted(each.name for each in path.iterdir())):
        if not place.force:
            raise place.refused("already exists", f"Add --force to replace it, or name another {place.option}.")
        if foreign := _foreign(path, entries):
            raise place.refused(
                f"{foreign}, and --force replaces nothing but runs of topocompress",
                f"Move it away, or name another place with {place.option}.",
            )


def check_picture(path: str | os.PathLike[str]) -> None:
    """Refuse a picture format that cannot be drawn.

    Raises:
        OutputError: The ending is not supported.
    """
    if Path(path).suffix.lower() not in PICTURES:
        raise OutputError(f"cannot draw {path}: unknown picture format", hint=f"Use one of {', '.join(PICTURES)}.")


def is_run(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a directory with a run description in it."""
    return (Path(path) / MANIFEST).is_file()


def _foreign(directory: Path, entries: Sequence[str]) -> str:
    """What speaks against deleting a directory; empty where it is a run of ours."""
    if MANIFEST not in entries:
        return f"has no {MANIFEST} of ours"
    if _manifest(directory / MANIFEST).get("format") != FORMAT:
        return f"has a {MANIFEST} that topocompress did not write"
    folders = [name for name in entries if (directory / name).is_dir()]  # of which a run has none
    return f"holds the folder {folders[0]}, which topocompress did not write" if folders else ""


def _manifest(file: Path) -> dict[str, Any]:
    try:
        if file.is_symlink() or not file.is_file() or file.stat().st_size > MANIFEST_BYTES:
            return {}
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _check_name(place: Place) -> Path:
    """Refuse a name that no file can have; returns the nearest folder that is there."""
    text = os.fspath(place.path)
    if not text.strip() or "\0" in text:
        what = "empty" if not text.strip() else "no name of a file"
        raise OutputError(f"{place.option} is {what}", hint=f"Name a place with {place.option}.")
    if not _encodes(text):
        raise place.refused("is no UTF-8, which is needed to write of it")
    if Path(text).name in ("", ".."):
        raise place.refused("is no name of its own")
    parent = Path(text).absolute().parent
    while not os.path.exists(parent):  # noqa: PTH110 - Path.exists raises for names that are too long
        parent = parent.parent
    longest = os.pathconf(parent, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    for part in Path(text).parts:
        if len(part.encode()) + _ADDED > longest:
            raise OutputError(
                f"{place.option} has a name of {len(part.encode())} bytes ({part[:30]}...); the file system takes "
                f"{longest}, and {_ADDED} are added while it is written",
                hint="Name a shorter one.",
            )
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise OutputError(f"{parent} is not a writable directory", hint=f"Name another place with {place.option}.")
    return parent


def _check_same_kind(place: Place) -> None:
    path = Path(place.path)
    if not path.exists():
        return
    with path.open("rb") as stream:
        head = stream.read(64).lstrip()
    beginning, what = (b"{", "JSON") if place.kind == "file" else (_BEGINNINGS[path.suffix.lower()], "such a picture")
    if head and not head.startswith(beginning):
        raise place.refused(f"is there, is not {what}, and would be lost")


def _check_apart(place: Place, source: Path) -> None:
    target = Path(place.path).resolve()
    if target == source or (target.exists() and target.samefile(source)):
        raise place.refused("is an input of this command, which would be lost")
    if target in source.parents:
        raise place.refused(f"lies above {source}, an input of this command")
    if source.is_dir() and source in target.parents:
        raise place.refused(f"lies inside {source}, an input of this command")


def _check_together(place: Place, other: Place) -> None:
    both = [(Path(one.path).resolve(), one) for one in (place, other)]
    for (inner, _), (outer, owner) in (both, both[::-1]):
        if inner == outer or (owner.kind != "folder" and outer in inner.parents):
            raise place.refused(
                f"({place.option}) and {os.fspath(other.path)} ({other.option}) are in each other's way",
                "Name two places.",
            )


def _free(folder: Path) -> float:
    with contextlib.suppress(OSError):  # of a file system that does not say
        return shutil.disk_usage(folder).free
    return float("inf")


def _holds(directory: Path, inner: Path) -> bool:
    return directory.resolve() in (inner.resolve(), *inner.resolve().parents)


def _existing(path: str | os.PathLike[str]) -> Path | None:
    with contextlib.suppress(OSError, ValueError):
        return Path(path).resolve(strict=True)
    return None


def _encodes(path: str | os.PathLike[str]) -> bool:
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True
