"""A folder of images as users keep them: class folders, parts for training and evaluation, and what lies beside them.

Class folders are numbered by their names as text, as torchvision's ImageFolder does; one without images counts, or all
behind it would get other numbers.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from topocompress.data.labels import plain
from topocompress.errors import DataError

SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
TRAINING = ("train", "training", "trn")
EVALUATION = ("test", "testing", "val", "valid", "validation", "eval", "evaluation", "dev")
"""Names of parts, in any case; of several for evaluation the first is taken."""

_UNREAD = {".gif", ".heic", ".heif", ".avif", ".jfif", ".jp2", ".svg", ".npy", ".npz", ".dcm", ".exr", ".psd", ".dng"}
"""Kinds of images that are not read; files of no image lie in many a folder and are not worth a word."""
_TABLES = {".csv", ".tsv", ".json", ".jsonl", ".xml", ".txt", ".parquet"}
_JUNK = {"__macosx", "@eadir", "__pycache__", "$recycle.bin", "system volume information", "lost+found"} | {
    "thumbs.db",
    "desktop.ini",
}
_CLASSES_HINT = "If it is a class, name all classes with --classes FILE, one a line in the order of the outputs"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a folder holds.

    Attributes:
        paths: The images; those for evaluation, if they are kept apart, come last.
        labels: Number of each image's class, -1 without class folders.
        classes: Names of the class folders by number.
        held_out: How many images are for evaluation; ``None`` where the folder does not say.
        notes: What was taken for what.
        warnings: What a user may not expect.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    held_out: int | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def read_folder(root: Path, known: Sequence[str] = ()) -> Found:
    """Find the images of a folder of class folders, of parts (``train/``, ``val/``) with class folders, or of images.

    Args:
        root: The folder. Where all lies in one folder inside it, that one is read.
        known: Names of the classes, where they are known: a folder of such a name is a class.

    Raises:
        DataError: Missing, without images, or what is a class and what is not cannot be told.
    """
    if not root.is_dir():
        what = "is not a directory" if root.exists() else "does not exist"
        raise DataError(f"{root} {what}", hint="Give a folder of images, or of one folder of images per class.")
    names = {plain(name) for name in known}
    inner = _unwrapped(root, names)
    notes = [] if inner == root else [f"read from {inner}"]
    parts = _parts(inner, names)
    if not parts:
        found = _scan(inner, names)
        if not found.paths:
            raise DataError(
                f"{root} holds no images", hint=f"Accepted: {', '.join(sorted(SUFFIXES))}; flat or a folder per class."
            )
        return _with(found, notes=notes)
    return _with(_divided(inner, parts, names), notes=notes)


def _with(found: Found, *, notes: Sequence[str]) -> Found:
    used = set(found.labels)
    empty = [name for number, name in enumerate(found.classes) if number not in used]
    kind = f"{len(found.classes)} class folders" if found.classes else "unlabelled images"
    missing = [f"without images, and counted as classes: {_listed(empty)}"] if empty else []
    return Found(
        paths=found.paths,
        labels=found.labels,
        classes=found.classes,
        held_out=found.held_out,
        notes=(kind, *notes, *found.notes, *missing),
        warnings=found.warnings,
    )


def _unwrapped(root: Path, names: set[str]) -> Path:
    """The folder inside that holds everything, as unpacked archives and ``images/train/`` have it."""
    folders = _folders(root)
    filled = [folder for folder in folders if _holds_image(folder)]
    if len(filled) != 1 or _images(root, deep=False) or _images(filled[0], deep=False):
        return root
    if plain(filled[0].name) in names or _is_part(filled[0]):
        return root
    return _unwrapped(filled[0], names) if len(folders) == 1 or _parts_inside(filled[0]) else root


def _parts(root: Path, names: set[str]) -> list[Path]:
    """The folders that are parts of a set, training first."""
    filled = [folder for folder in _folders(root) if _holds_image(folder)]
    named = [folder for folder in _folders(root) if _is_part(folder) and plain(folder.name) not in names]
    parts = [folder for folder in named if folder in filled]
    others = [folder.name for folder in filled if folder not in parts]
    if named and others:
        raise DataError(
            f"{root} holds {named[0].name}/ beside {_listed(others)}: is it a class, or a part of the set?",
            hint=f"{_CLASSES_HINT}; if not, sort class folders into train/ and test/, or give one of the folders.",
        )
    if parts and (loose := _images(root, deep=False)):
        raise DataError(
            f"{root} holds both images ({loose[0].name}, ...) and folders of images ({parts[0].name}, ...)",
            hint="Move the images into one of the folders.",
        )
    order = (*TRAINING, *EVALUATION)
    return sorted(parts, key=lambda folder: (order.index(folder.name.casefold()), folder.name))


def _divided(root: Path, parts: Sequence[Path], names: set[str]) -> Found:
    training = [part for part in parts if part.name.casefold() in TRAINING]
    others = [part for part in parts if part not in training]
    if len(training) > 1:
        raise DataError(
            f"{root} holds {training[0].name}/ and {training[1].name}/: which is for training?", hint="Remove one."
        )
    notes: list[str] = []
    if not training:  # calibrated on the validation images, judged on the test images, where there are both
        training = [others[1] if len(others) > 1 else others[0]]
        others = [part for part in others if part != training[0]]
        notes.append(f"no train/: calibrated on {training[0].name}/")
    train = _scan(training[0], names)
    judged = {part: _scan(part, names) for part in others}
    alike = [part for part in others if bool(judged[part].classes) == bool(train.classes)]
    chosen = next(iter(alike), None if train.classes else next(iter(others), None))
    warnings = [*train.warnings, *(() if chosen is None else judged[chosen].warnings)]
    if left := [f"{part.name}/" for part in others if part != chosen]:
        why = ", for want of class folders" if any(part not in alike for part in others if part != chosen) else ""
        instead = f"a part of {training[0].name}/" if chosen is None else f"{chosen.name}/"
        warnings.append(f"{_listed(left)} in {root} is not read{why}: evaluated on {instead} instead.")
    if chosen is None:
        return Found(
            paths=train.paths, labels=train.labels, classes=train.classes, notes=tuple(notes), warnings=tuple(warnings)
        )
    test = judged[chosen]
    notes.append(f"evaluated on {chosen.name}/")
    if test.classes and not train.classes:
        warnings.append(f"{chosen} has class folders and {training[0]} has none: labels are not used.")
        test = Found(paths=test.paths, labels=(-1,) * len(test.paths), classes=())
    classes = train.classes
    if unknown := [name for name in test.classes if name not in train.classes]:
        if not {plain(name) for name in unknown} <= names:
            raise DataError(
                f"{chosen} has classes that {training[0]} lacks: {_listed(unknown)}",
                hint="Use the same class folders in both, or name all classes with --classes FILE.",
            )
        classes = (*train.classes, *unknown)
    return Found(
        paths=(*train.paths, *test.paths),
        labels=(*train.labels, *(label if label < 0 else classes.index(test.classes[label]) for label in test.labels)),
        classes=classes,
        held_out=len(test.paths),
        notes=tuple(notes),
        warnings=tuple(warnings),
    )


def _scan(root: Path, names: set[str]) -> Found:
    """Images and class folders; labels number the folders in the order of their names as text."""
    folders, loose = _folders(root), _images(root, deep=False)
    filled = [folder for folder in folders if _holds_image(folder)]
    if filled and loose:
        raise DataError(
            f"{root} holds both images ({loose[0].name}, ...) and folders of images ({filled[0].name}, ...)",
            hint="Sort all images into class folders, or put all of them in one folder.",
        )
    if not filled:
        tables = sorted(path.name for path in _walk(root, _TABLES, deep=False)) if loose else []
        said = [f"{_listed(tables)} in {root}: not read, labels come from class folders alone."] if tables else []
        return Found(
            paths=tuple(loose),
            labels=(-1,) * len(loose),
            classes=(),
            warnings=(*_unread([root], deep=False), *said),
        )
    for folder in filled:
        if (inside := _parts_inside(folder)) and not names >= {plain(part.name) for part in inside}:
            raise DataError(
                f"{folder} holds {_listed([f'{part.name}/' for part in inside])}: parts of a set inside a class folder",
                hint="Put train/ and test/ at the top, each with all class folders, or give one folder of them.",
            )
    for folder in folders:  # an empty one is a class whose images are missing; annotations are none
        if not names and folder not in filled and (stray := next(_others(folder), None)):
            raise DataError(
                f"{folder} holds no images, but {stray.name}: is it a class?",
                hint=f"{_CLASSES_HINT}; if not, move it out of {root}.",
            )
    paths: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        found = _images(folder, deep=True)
        paths += found
        labels += [label] * len(found)
    return Found(
        paths=tuple(paths),
        labels=tuple(labels),
        classes=tuple(folder.name for folder in folders),
        warnings=_unread(folders, deep=True),
    )


def _unread(folders: Sequence[Path], *, deep: bool) -> tuple[str, ...]:
    """A sentence on images of a kind that is not read."""
    kinds = Counter(path.suffix.lower() for folder in folders for path in _walk(folder, _UNREAD, deep=deep))
    if not kinds:
        return ()
    return (f"Not read: {', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))} files.",)


def _folders(root: Path) -> list[Path]:
    with os.scandir(root) as entries:  # unlike Path.iterdir it need not look at every file again
        found = [Path(entry.path) for entry in entries if entry.is_dir()]
    return sorted(filter(_is_seen, found), key=lambda path: path.name)


def _is_seen(path: Path) -> bool:
    return path.name[0] != "." and path.name.casefold() not in _JUNK


def _is_part(folder: Path) -> bool:
    return folder.name.casefold() in (*TRAINING, *EVALUATION)


def _parts_inside(folder: Path) -> list[Path]:
    return [part for part in _folders(folder) if _is_part(part) and _holds_image(part)]


def _images(folder: Path, *, deep: bool) -> list[Path]:
    return sorted(_walk(folder, SUFFIXES, deep=deep))


def _others(folder: Path) -> Iterator[Path]:
    """Files that are no images of any kind."""
    return (path for path in _walk(folder, None, deep=True) if path.suffix.lower() not in SUFFIXES | _UNREAD)


def _walk(folder: Path, suffixes: Set[str] | None, *, deep: bool) -> Iterator[Path]:
    """Files of these suffixes, or all, in no order; hidden ones and those in hidden folders are left out."""
    for path in folder.rglob("*") if deep else folder.iterdir():
        inside = path.relative_to(folder).parents
        if (
            (suffixes is None or path.suffix.lower() in suffixes)
            and _is_seen(path)
            and path.is_file()
            and all(_is_seen(parent) for parent in inside if parent.name)
        ):
            yield path


def _holds_image(folder: Path) -> bool:
    return next(_walk(folder, SUFFIXES, deep=True), None) is not None


def _listed(names: Sequence[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
