"""The named data sources, each read into one :class:`Pool` of samples that is not divided yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from topocompress.data.datasets import ArrayImages, FileImages, ForeignSet, SampleSet
from topocompress.data.folders import read_folder
from topocompress.data.images import finished
from topocompress.data.splits import Indices
from topocompress.errors import DataError
from topocompress.types import Augmentation, Preprocessing

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
    try:
        return tuple(dataset(str(root), train=train, download=download) for train in (True, False))
    except (OSError, RuntimeError, ValueError, AssertionError, EOFError) as error:
        # torchvision checks the layout of raw files by assertions
        reason = str(error).strip() or "damaged files"
        raise DataError(f"cannot read {name} in {root}: {reason}", hint=hint) from error


def _divided(
    images: torch.Tensor, labels: Any, train: int, classes: Any, preprocessing: Preprocessing, kind: Augmentation
) -> Pool:
    return Pool(
        augmentation=kind,
        samples=ArrayImages(images, labels, preprocessing),
        classes=tuple(classes),
        held_out=np.arange(train, len(images), dtype=np.intp),
    )


def image_folder(root: Path, preprocessing: Preprocessing, known: Sequence[str] = ()) -> Pool:
    """A folder of class folders, of parts such as ``train/`` and ``test/``, or of images.

    Raises:
        DataError: Missing, without images, or what is a class and what is not cannot be told.
    """
    try:
        found = read_folder(root, known)
    except OSError as error:
        raise DataError(f"cannot read {root}: {error}", hint="Check its permissions.") from error
    total = len(found.paths)
    return Pool(
        samples=FileImages(found.paths, found.labels, preprocessing),
        classes=found.classes,
        held_out=None if found.held_out is None else np.arange(total - found.held_out, total, dtype=np.intp),
        note="; ".join(found.notes),
        warnings=found.warnings,
        augmentation="natural",
    )


def foreign(train: Any, test: Any, name: str, preprocessing: Preprocessing) -> Pool:
    """Datasets of the caller's own: one, of which a fifth is held out, or one for training and one for evaluation.

    Where they have no ``classes``, their labels are numbers of outputs.

    Raises:
        DataError: Not a map-style dataset, or its labels are no integers.
    """
    parts = [train] if test is None else [train, test]
    labels: list[int] = []
    for part in parts:
        if not hasattr(part, "__len__") or not hasattr(part, "__getitem__"):
            raise DataError(
                f"{name} is a {type(part).__name__}, not a dataset with len() and [i]",
                hint="Return a torch Dataset, (train, test), or a topocompress.data.loading.Data.",
            )
        labels += _labels(part, name)
    samples = ForeignSet(part if test is None else _Joined(train, test), labels, name=name, preprocessing=preprocessing)
    held_out = None if test is None else np.arange(len(train), len(samples), dtype=np.intp)
    classes = tuple(str(name) for name in getattr(train, "classes", ()))
    return Pool(samples=samples, classes=classes, held_out=held_out)


class _Joined:
    def __init__(self, first: Any, second: Any) -> None:
        self.first, self.second = first, second

    def __getitem__(self, index: int) -> Any:
        return self.first[index] if index < len(self.first) else self.second[index - len(self.first)]


def _labels(dataset: Any, name: str) -> list[int]:
    """Labels from ``targets`` where the dataset has them, else from every item; -1 for items without."""
    found = getattr(dataset, "targets", None)
    if found is None or len(found) != len(dataset):
        items = (dataset[index] for index in range(len(dataset)))
        found = [item[1] if isinstance(item, tuple | list) and len(item) > 1 else -1 for item in items]
    try:
        numbers = [int(label) for label in found]
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{name} has a label that is no integer: {error}", hint="Yield (image, class number)."
        ) from error
    return numbers


def check_fits(dataset: Any, preprocessing: Preprocessing, name: str) -> None:
    """Look at the first sample of finished data.

    Raises:
        DataError: It is empty, or its samples do not fit the model.
    """
    if len(dataset) == 0:
        raise DataError(f"{name} holds no samples", hint="Give it some.")
    finished(dataset[0][0], preprocessing, f"{name}, sample 0")
