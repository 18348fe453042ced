"""What a user writes as data, looked at before torch is loaded: what surely is none is refused at once."""

from __future__ import annotations

import os
from pathlib import Path

from topocompress.data.walking import folders_in, images_in
from topocompress.errors import DataError
from topocompress.models.factories import is_factory, module_files

FORMS = "a folder of images, digits, fashion-mnist:ROOT, cifar10:ROOT, imagefolder:PATH, pkg.module:factory"
BY_ORDER, BY_NUMBER, IMAGENET = "by-order", "by-number", "imagenet"
WORDS = (BY_ORDER, BY_NUMBER, IMAGENET)
"""What ``--classes`` takes in place of names."""
NO_VALIDATION = "A factory returns (train, test) instead; other data sets come divided."
_ROOTED = {"fashion-mnist": "FashionMNIST", "cifar10": "cifar-10-batches-py", "imagefolder": ""}
"""Sources that are folders, and what below the folder is theirs."""


def check_source(source: str | Path | None, *, download: bool = False, validation: str | Path | None = None) -> None:
    """Refuse unknown sources and folders that are missing.

    Args:
        source: What the user wrote, see :func:`topocompress.data.load_data`; ``None`` for photographs.
        download: Whether a missing folder may be filled.
        validation: Another folder of images, whose all are held out.

    Raises:
        DataError: It cannot be loaded; says why and what to do.
    """
    if validation is not None:
        if source is None or not written(source).lower().startswith("imagefolder:"):
            raise DataError("--val-data goes with --data and a folder of images", hint=NO_VALIDATION)
        if not str(validation) or not _there(validation):
            raise DataError(f"--val-data {str(validation)[:80]} is no directory", hint="Give it a folder of images.")
    if source is None or source == "digits":
        return
    source = written(source)
    name, _, rest = source.partition(":")
    name = name.lower()
    if name in _ROOTED and rest:
        where = Path(rest).expanduser()
        if not where.is_dir() and not (download and name != "imagefolder"):
            what = "is not a directory" if where.exists() else "does not exist"
            hint = "Give a folder of images, or of one folder of images per class."
            more = "Give the folder that holds the data set, or add --download."
            raise DataError(f"{where} {what}", hint=hint if name == "imagefolder" else more)
    elif not is_factory(source):
        why = "it is a file" if os.path.isfile(source) else "there is no such folder"  # noqa: PTH113 - as below
        raise DataError(f"unknown data source {source[:80]!r}: {why}", hint=advice())


def has_no_labels(source: str | Path | None) -> bool:
    """Whether a source surely has none: a folder in which images lie, and no folder of others."""
    name, _, rest = written(source or "").partition(":")
    if name.lower() != "imagefolder" or not rest:
        return False
    where = Path(rest).expanduser()
    try:
        return where.is_dir() and bool(images_in(where, deep=False)) and not folders_in(where)
    except (OSError, DataError):  # those who read it say what is wrong
        return False


def written(given: str | Path) -> str:
    """A source as it is written in full: a folder is one of images."""
    source = str(given)
    known = source == "digits" or source.partition(":")[0].lower() in _ROOTED or is_factory(source)
    return f"imagefolder:{source}" if source and not known and _there(source) else source


def _there(folder: str | Path) -> bool:
    return os.path.isdir(Path(folder).expanduser())  # noqa: PTH112 - of a name too long for a file, a Path raises


def paths_of(source: str | None) -> list[Path]:
    """Files and folders that loading samples reads, as far as the words say; some need not be there."""
    if source is None:
        return []
    source = written(source)
    name, _, rest = source.partition(":")
    if name.lower() in _ROOTED and rest:
        return [Path(rest).expanduser() / _ROOTED[name.lower()]]
    return module_files(source)


def advice() -> str:
    """What to write instead of an unknown source."""
    return f"Accepted: {FORMS}; or leave out --data."
