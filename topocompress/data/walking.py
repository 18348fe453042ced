"""What lies in a folder: images, folders, other files; links are followed, hidden things and junk are not seen."""

from __future__ import annotations

import os
from collections.abc import Iterator, Set
from pathlib import Path

from topocompress.errors import DataError

SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
UNREAD = {".gif", ".heic", ".heif", ".avif", ".jfif", ".jp2", ".svg", ".npy", ".npz", ".dcm", ".exr", ".psd", ".dng"}
"""Kinds of images that are not read; files of no image lie in many a folder and are not worth a word."""
TABLES = {".csv", ".tsv", ".json", ".jsonl", ".xml", ".txt", ".parquet"}
_JUNK = {"__macosx", "@eadir", "__pycache__", "$recycle.bin", "system volume information", "lost+found"} | {
    "thumbs.db",
    "desktop.ini",
}


def folders_in(root: Path) -> list[Path]:
    """Folders, by their names as text.

    Raises:
        DataError: What may be one is a link to nothing: without it all behind it would get other numbers.
    """
    found = []
    with os.scandir(root) as entries:  # unlike Path.iterdir it need not look at every file again
        for entry in entries:
            path = Path(entry.path)
            if not _is_seen(path.name):
                continue
            if entry.is_symlink() and not path.suffix and not path.exists():
                raise DataError(f"{path} is a link to nothing: is it a folder?", hint="Mend the link, or remove it.")
            if entry.is_dir():
                found.append(path)
    return sorted(found, key=lambda path: path.name)


def images_in(folder: Path, *, deep: bool) -> list[Path]:
    """Images, also those of folders inside if ``deep``; links to nothing among them, which cannot be read."""
    return sorted(walk(folder, SUFFIXES, deep=deep))


def others_in(folder: Path) -> Iterator[Path]:
    """Files that are no images of any kind."""
    return (path for path in walk(folder, None, deep=True) if path.suffix.lower() not in SUFFIXES | UNREAD)


def holds_image(folder: Path) -> bool:
    """Whether there is one, at any depth."""
    return next(walk(folder, SUFFIXES, deep=True), None) is not None


def walk(folder: Path, suffixes: Set[str] | None, *, deep: bool) -> Iterator[Path]:
    """Files of these suffixes, or all, in no order; hidden ones and those in hidden folders are left out."""
    for place, inside, files in os.walk(folder, followlinks=True, onerror=_raise):
        here = Path(place)
        inside[:] = [name for name in inside if deep and _is_seen(name) and not _goes_back(here / name)]
        for name in files:
            path = here / name
            wanted = (suffixes is None or path.suffix.lower() in suffixes) and _is_seen(name)
            if wanted and (path.is_file() or not path.exists()):
                yield path


def _raise(error: OSError) -> None:
    raise error


def _goes_back(folder: Path) -> bool:
    """Whether it is a link to a folder that holds it, and would go round in circles."""
    return folder.is_symlink() and folder.resolve() in (folder.parent.resolve(), *folder.parent.resolve().parents)


def _is_seen(name: str) -> bool:
    return name[0] != "." and name.casefold() not in _JUNK
