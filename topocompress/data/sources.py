"""The named data sources, each read into one :class:`Pool` of samples that is not divided yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from topocompress.data.datasets import ArrayImages, FileImages, ForeignSet, SampleSet
from topocompress.data.folders import Found, beside, read_folder
from topocompress.data.images import finished
from topocompress.data.splits import Indices
from topocompress.errors import DataError
from topocompress.models.class_names import ordered_names
from topocompress.runtime.borders import border
from topocompress.types import Augmentation, Preprocessing

_COMPARED, _SHOWN = 20, 60
"""Items whose labels are held against a dataset's ``targets``; characters of a label that a message shows."""
DIGITS_SEED = 0
"""The digits are always divided in the same way, or the shipped network would be judged on what it was trained on."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """All samples of a source.

    Attributes:
        samples: The samples.
        classes: Class names by label; none where there are no labels, or no names.
        held_out: Numbers of the evaluation samples, if the source says which.
        split_seed: Seed of the choice of evaluation samples, if it is not the user's.
        augmentation: What may be done to its images in training; ``None`` where nobody knows.
        note: One line on the source.
        warnings: Sentences on what a user may not expect of it.
    """

    samples: SampleSet
    classes: tuple[str, ...]
    held_out: Indices | None = None
    split_seed: int | None = None
    augmentation: Augmentation | None = None
    note: str = ""
    warnings: tuple[str, ...] = ()


def digits(preprocessing: Preprocessing) -> Pool:
    """The 1,797 handwritten digits of 8 x 8 pixels that ship with scikit-learn."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.from_numpy(found.images.astype(np.float32) / 16)[:, None]
    return Pool(
        samples=ArrayImages(images, found.target, preprocessing),
        classes=tuple(str(digit) for digit in range(10)),
        split_seed=DIGITS_SEED,
        augmentation="shift",
        note="handwritten digits from scikit-learn",
    )


def fashion_mnist(root: Path, preprocessing: Preprocessing, *, download: bool) -> Pool:
    """Fashion-MNIST in torchvision's layout: ``ROOT/FashionMNIST/raw/*-ubyte``.

    Raises:
        DataError: Files are missing or damaged.
    """
    from torchvision.datasets import FashionMNIST

    hint = (
        f"Unzip the four *-ubyte.gz files into {root / 'FashionMNIST' / 'raw'} (gunzip; copies from a Linux "
        "distribution are zipped anew and fail torchvision's checksum), or add --download."
    )
    train, test = _both(FashionMNIST, root, "Fashion-MNIST", download=download, hint=hint)
    images = torch.cat([train.data, test.data])[:, None]
    labels = [*train.targets.tolist(), *test.targets.tolist()]
    return _divided(images, labels, len(train), train.classes, preprocessing, "shift")


def cifar10(root: Path, preprocessing: Preprocessing, *, download: bool) -> Pool:
    """CIFAR-10 in torchvision's layout: ``ROOT/cifar-10-batches-py/``.

    Raises:
        DataError: Files are missing or damaged.
    """
    # torchvision unpickles these files, but only after each has matched its published checksum.
    from torchvision.datasets import CIFAR10

    hint = f"Unpack cifar-10-python.tar.gz into {root}, or add --download."
    train, test = _both(CIFAR10, root, "CIFAR-10", download=download, hint=hint)
    images = torch.from_numpy(np.concatenate([train.data, test.data])).permute(0, 3, 1, 2)
    return _divided(images, [*train.targets, *test.targets], len(train), train.classes, preprocessing, "natural")


def _both(dataset: Callable[..., Any], root: Path, name: str, *, download: bool, hint: str) -> tuple[Any, Any]:
    with border(lambda why: DataError(f"cannot read {name} in {root}: {why}", hint=hint)):
        return tuple(dataset(str(root), train=train, download=download) for train in (True, False))


def _divided(
    images: torch.Tensor, labels: Any, train: int, classes: Any, preprocessing: Preprocessing, kind: Augmentation
) -> Pool:
    return Pool(
        augmentation=kind,
        samples=ArrayImages(images, labels, preprocessing),
        classes=tuple(classes),
        held_out=np.arange(train, len(images), dtype=np.intp),
    )


def image_folder(
    root: Path, preprocessing: Preprocessing, known: Sequence[str] = (), validation: Path | None = None
) -> Pool:
    """A folder of class folders, of parts such as ``train/`` and ``test/``, or of images.

    Args:
        root: The folder.
        preprocessing: What the model expects.
        known: Names of the classes, where they are known.
        validation: Another folder, all of whose images are held out, and no others.

    Raises:
        DataError: Missing, without images, or what is a class and what is not cannot be told.
    """
    found = _read(root, known)
    if validation is not None:
        found = beside(found, _read(validation, known or found.classes), str(validation))
    total = len(found.paths)
    return Pool(
        samples=FileImages(found.paths, found.labels, preprocessing),
        classes=found.classes,
        held_out=None if found.held_out is None else np.arange(total - found.held_out, total, dtype=np.intp),
        note="; ".join(found.notes),
        warnings=found.warnings,
        augmentation="natural",
    )


def _read(root: Path, known: Sequence[str]) -> Found:
    try:
        return read_folder(root, known)
    except OSError as error:
        raise DataError(f"cannot read {root}: {error}", hint="Check its permissions.") from error


def foreign(
    train: Any, test: Any, name: str, preprocessing: Preprocessing, *, unlabelled: bool = False, targets: bool = False
) -> Pool:
    """Datasets of the caller's own: one, of which a fifth is held out, or one for training and one for evaluation.

    Where they have no ``classes``, their labels are numbers of outputs.

    Args:
        train: A dataset.
        test: Another, or ``None``.
        name: For messages.
        preprocessing: What the model expects.
        unlabelled: Do not look at labels, whatever they are.
        targets: Hand on what comes behind an input as it is; it is a label only where it is a whole number.

    Raises:
        DataError: Not a map-style dataset, its labels are no integers, or those of one mean other classes than those
            of the other.
    """
    with border(lambda why: DataError(f"{name} cannot be read: {why}", hint="Fix the dataset.")):
        return _foreign(train, test, name, preprocessing, unlabelled=unlabelled, targets=targets)


def _foreign(
    train: Any, test: Any, name: str, preprocessing: Preprocessing, *, unlabelled: bool, targets: bool
) -> Pool:
    parts = [train] if test is None else [train, test]
    if test is train:
        raise DataError(
            f"{name} gives the same dataset for training and for evaluation",
            hint="Return it alone: a fifth of it is held out then.",
        )
    labels: list[int] = []
    classes, others = _classes(train), _classes(test)
    if classes and others and classes != others:
        raise DataError(
            f"{name}: the datasets for training and evaluation number classes differently: {_listed(classes)} and "
            f"{_listed(others)}",
            hint="Give both the same classes in the same order.",
        )
    note = ""
    for part in parts:
        if not hasattr(part, "__len__") or not hasattr(part, "__getitem__"):
            raise DataError(
                f"{name} is a {type(part).__name__}, not a dataset with len() and [i]",
                hint="Return a torch Dataset, (train, test), or a topocompress.data.loading.Data.",
            )
        found, known = ([-1] * len(part), True) if unlabelled or (targets and _other(part)) else _labels(part, name)
        labels += found
        if not known:  # as target_transform does it
            classes, note = (), "labels as its items have them, not its targets: taken for numbers of outputs"
    samples = ForeignSet(part if test is None else _Joined(train, test), labels, name=name, preprocessing=preprocessing)
    samples.as_they_come = targets
    held_out = None if test is None else np.arange(len(train), len(samples), dtype=np.intp)
    return Pool(samples=samples, classes=() if unlabelled else classes, held_out=held_out, note=note)


def _other(dataset: Any) -> bool:
    """Whether what comes behind the first input is something else than the number of a class."""
    try:
        return len(dataset) > 0 and _number(_label(dataset[0]), "") < 0
    except DataError:
        return True


class _Joined:
    def __init__(self, first: Any, second: Any) -> None:
        self.first, self.second = first, second

    def __getitem__(self, index: int) -> Any:
        return self.first[index] if index < len(self.first) else self.second[index - len(self.first)]


def _classes(dataset: Any) -> tuple[str, ...]:
    """Class names by label; none where the dataset has none that can be read so."""
    found = getattr(dataset, "classes", ())
    if isinstance(found, Mapping):
        return ordered_names(found) or ()
    return () if isinstance(found, str) or not isinstance(found, Iterable) else tuple(map(str, found))


def _labels(dataset: Any, name: str) -> tuple[list[int], bool]:
    """Labels from ``targets`` where the dataset has them and its items the same, else from every item.

    Returns:
        -1 for items without; and whether they are what ``targets``, if there is such a thing, says.
    """
    count, found = len(dataset), getattr(dataset, "targets", None)
    if found is not None and len(found) == count:
        numbers = [_number(label, name) for label in found]
        some = range(0, count, max(1, count // _COMPARED))
        if all(_number(_label(dataset[index]), name) == numbers[index] for index in some):
            return numbers, True
    return [_number(_label(dataset[index]), name) for index in range(count)], found is None


def _label(item: Any) -> Any:
    return item[1] if isinstance(item, tuple | list) and len(item) > 1 else None


def _number(label: Any, name: str) -> int:
    try:
        value = label.item() if hasattr(label, "item") else label
        number = -1 if value is None else int(value)
        whole = value is None or number == float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        whole = False
    if not whole:
        raise DataError(
            f"{name} has a label that is no integer: {' '.join(repr(label).split())[:_SHOWN]}",
            hint="Yield (image, class number); or add --unlabelled, which compares outputs with the original's.",
        )
    return number


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def check_fits(dataset: Any, preprocessing: Preprocessing, name: str) -> None:
    """Look at the first sample of finished data.

    Raises:
        DataError: It is empty, or its samples do not fit the model.
    """
    if len(dataset) == 0:
        raise DataError(f"{name} holds no samples", hint="Give it some.")
    finished(dataset[0][0], preprocessing, f"{name}, sample 0")
