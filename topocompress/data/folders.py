"""A folder of images as users keep them: class folders, parts for training and evaluation, and what lies beside them.

Class folders are numbered by their names as text, as torchvision's ImageFolder does; one without images counts, or all
behind it would get other numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from topocompress.data.labels import plain
from topocompress.data.walking import SUFFIXES, TABLES, UNREAD, folders_in, holds_image, images_in, others_in, walk
from topocompress.errors import DataError

TRAINING = ("train", "training", "trn")
EVALUATION = ("test", "testing", "val", "valid", "validation", "eval", "evaluation", "dev")
"""Names of parts, in any case, alone or as in ``train2017`` and ``test_set``; of several for evaluation the first is
taken."""
_PART = re.compile(rf"({'|'.join((*TRAINING, *EVALUATION))})([\s_-]*(set|data|images?|imgs?|\d+))?")
_NAMES = re.compile(r"class|label|names|idx|categor", re.IGNORECASE)
"""What files that name classes are called."""

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


def beside(images: Found, others: Found, source: str) -> Found:
    """What two folders hold, of which all images of the other are held out, and those of the first are not.

    Classes are matched by name; ``source`` is the other, for messages.

    Raises:
        DataError: Only one of them has class folders, or the other has a class that the first has not.
    """
    if bool(images.classes) != bool(others.classes):
        raise DataError(
            f"{source} {'has' if others.classes else 'has no'} class folders, and the other images "
            f"{'have none' if others.classes else 'have'}",
            hint="Give both one folder for each class, or none.",
        )
    numbers = {plain(name): number for number, name in enumerate(images.classes)}
    if unknown := [name for name in others.classes if plain(name) not in numbers]:
        raise DataError(
            f"{source} has the class {unknown[0]!r}, which the other images do not have",
            hint="Call class folders alike in both.",
        )
    labels = [numbers[plain(others.classes[label])] if label >= 0 else -1 for label in others.labels]
    return Found(
        paths=(*images.paths, *others.paths),
        labels=(*images.labels, *labels),
        classes=images.classes,
        held_out=len(others.paths),
        notes=(*images.notes, f"evaluated on {source}"),
        warnings=(*images.warnings, *others.warnings),
    )


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
    else:
        found = _divided(inner, parts, names)
    lists = [path for place in dict.fromkeys((root, inner)) for path in sorted(walk(place, TABLES, deep=False))]
    lists = [path for path in lists if _NAMES.search(path.stem)] if found.classes and not names else []
    said = [f"{path} is not read; if it names the outputs in their order: --classes {path}" for path in lists[:1]]
    return _with(found, notes=notes, warnings=said)


def _with(found: Found, *, notes: Sequence[str], warnings: Sequence[str]) -> Found:
    used = set(found.labels)
    empty = [name for number, name in enumerate(found.classes) if number not in used]
    kind = (
        f"{len(found.classes)} class folder{'s' * (len(found.classes) != 1)}" if found.classes else "unlabelled images"
    )
    missing = [f"without images, and counted as classes: {_listed(empty)}"] if empty else []
    return Found(
        paths=found.paths,
        labels=found.labels,
        classes=found.classes,
        held_out=found.held_out,
        notes=(kind, *notes, *found.notes, *missing),
        warnings=(*found.warnings, *warnings),
    )


def _unwrapped(root: Path, names: set[str]) -> Path:
    """The folder inside that holds everything, as unpacked archives and ``images/train/`` have it."""
    folders = folders_in(root)
    filled = [folder for folder in folders if holds_image(folder)]
    if len(filled) != 1 or images_in(root, deep=False) or images_in(filled[0], deep=False):
        return root
    if plain(filled[0].name) in names or _is_part(filled[0]):
        return root
    return _unwrapped(filled[0], names) if len(folders) == 1 or _parts_inside(filled[0]) else root


def _parts(root: Path, names: set[str]) -> list[Path]:
    """The folders that are parts of a set, training first."""
    filled = [folder for folder in folders_in(root) if holds_image(folder)]
    named = [folder for folder in folders_in(root) if _is_part(folder) and plain(folder.name) not in names]
    parts = [folder for folder in named if folder in filled]
    others = [folder.name for folder in filled if folder not in parts]
    if named and others:
        raise DataError(
            f"{root} holds {named[0].name}/ beside {_listed(others)}: is it a class, or a part of the set?",
            hint=f"{_CLASSES_HINT}; if not, sort class folders into train/ and test/, or give one of the folders.",
        )
    if parts and (loose := images_in(root, deep=False)):
        raise DataError(
            f"{root} holds both images ({loose[0].name}, ...) and folders of images ({parts[0].name}, ...)",
            hint="Move the images into one of the folders.",
        )
    order = (*TRAINING, *EVALUATION)
    return sorted(parts, key=lambda folder: (order.index(_part(folder)), folder.name))


def _divided(root: Path, parts: Sequence[Path], names: set[str]) -> Found:
    training = [part for part in parts if _part(part) in TRAINING]
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
    if chosen.resolve() == training[0].resolve():
        raise DataError(
            f"{chosen} and {training[0]} are the same folder: nothing is held out",
            hint="Remove one; a fifth of the other is held out then.",
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
    folders, loose = folders_in(root), images_in(root, deep=False)
    filled = [folder for folder in folders if holds_image(folder)]
    if filled and loose:
        raise DataError(
            f"{root} holds both images ({loose[0].name}, ...) and folders of images ({filled[0].name}, ...)",
            hint="Sort all images into class folders, or put all of them in one folder.",
        )
    if not filled:
        tables = sorted(path.name for path in walk(root, TABLES, deep=False)) if loose else []
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
        if not names and folder not in filled and (stray := next(others_in(folder), None)):
            raise DataError(
                f"{folder} holds no images, but {stray.name}: is it a class?",
                hint=f"{_CLASSES_HINT}; if not, move it out of {root}.",
            )
    paths: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        found = images_in(folder, deep=True)
        paths += found
        labels += [label] * len(found)
    return Found(
        paths=tuple(paths),
        labels=tuple(labels),
        classes=tuple(folder.name for folder in folders),
        warnings=(*_unread(folders, deep=True), *_nested(filled, names)),
    )


def _nested(filled: Sequence[Path], names: set[str]) -> tuple[str, ...]:
    """A sentence where class folders hold folders that may be the classes."""
    inside = [[inner.name for inner in folders_in(folder) if holds_image(inner)] for folder in filled]
    if max(map(len, inside)) < 2 or {plain(folder.name) for folder in filled} <= names:
        return ()
    if any(images_in(folder, deep=False) for folder in filled):
        return ()
    where = next(number for number, found in enumerate(inside) if len(found) > 1)
    return (
        f"Class folders hold folders of images ({filled[where].name}/ holds {_listed(inside[where])}): the outer ones "
        f"({_listed([folder.name for folder in filled])}) are taken for the classes, as torchvision's ImageFolder "
        "does. If the inner ones are, give the folder that holds these.",
    )


def _unread(folders: Sequence[Path], *, deep: bool) -> tuple[str, ...]:
    """A sentence on images of a kind that is not read."""
    kinds = Counter(path.suffix.lower() for folder in folders for path in walk(folder, UNREAD, deep=deep))
    if not kinds:
        return ()
    return (f"Not read: {', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))} files.",)


def _is_part(folder: Path) -> bool:
    return bool(_part(folder))


def _part(folder: Path) -> str:
    """Which part of a set a folder is called; empty if none."""
    found = _PART.fullmatch(folder.name.casefold())
    return found[1] if found else ""


def _parts_inside(folder: Path) -> list[Path]:
    return [part for part in folders_in(folder) if _is_part(part) and holds_image(part)]


def _listed(names: Sequence[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
