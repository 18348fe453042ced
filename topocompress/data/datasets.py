"""Datasets of model inputs: every item is ``(image, label)``, prepared by a :class:`Preprocessing`.

The image is (channels, height, width) float32, normalised; the label an int, -1 where there is none.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from topocompress.data.images import finished, look_at, normalise, read_image, sized
from topocompress.data.ranges import Look
from topocompress.errors import DataError
from topocompress.runtime.borders import border
from topocompress.types import Augmentation, Preprocessing

Item = tuple[Tensor, Any]


class SampleSet(Dataset[Item]):
    """Labelled inputs by number.

    Attributes:
        targets: (samples,) int64 labels, -1 where unknown.
        augmentation: What may be done to its images in training; ``None`` where nobody knows.
    """

    targets: NDArray[np.int64]
    augmentation: Augmentation | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @abstractmethod
    def pixels(self, index: int) -> Tensor:
        """(C, H, W) the image as it is best kept: read, of the model's size, and where it can be in 8 bits."""

    @abstractmethod
    def finish(self, pixels: Tensor) -> Tensor:
        """(C, H, W) float32: the input made from what :meth:`pixels` gave, which is quick."""

    def __getitem__(self, index: int) -> Item:
        """The input and label of one sample."""
        return self.finish(self.pixels(index)), self.target(index)

    def target(self, index: int) -> Any:
        """What belongs to the input: its label, or what a dataset from elsewhere has there."""
        return int(self.targets[index])

    @abstractmethod
    def identity(self, index: int) -> bytes:
        """What tells this sample from others, for fingerprints."""

    @property
    def first_problem(self) -> str:
        """Why the first unusable sample is unusable, as the end of a sentence; empty where none is known to be."""
        return ""


class ArrayImages(SampleSet):
    """Images held in memory.

    Args:
        images: (samples, channels, height, width), uint8, or float32 in 0..1.
        labels: (samples,)
        preprocessing: What the model expects.
    """

    def __init__(self, images: Tensor, labels: Any, preprocessing: Preprocessing) -> None:
        self.images = images
        self.targets = np.asarray(labels, dtype=np.int64)
        self.preprocessing = preprocessing

    def pixels(self, index: int) -> Tensor:
        """The image in the model's size."""
        return sized(self.images[index], self.preprocessing)

    def finish(self, pixels: Tensor) -> Tensor:
        """Normalised."""
        return normalise(pixels, self.preprocessing)

    def identity(self, index: int) -> bytes:
        """The raw pixels."""
        return self.images[index].numpy().tobytes()


class FileImages(SampleSet):
    """Image files, decoded when asked for.

    Args:
        paths: One per sample.
        labels: (samples,)
        preprocessing: What the model expects; its range of pixels may be decided after a look at the files.

    Attributes:
        looks: What was seen in the files looked at, by number.
        problems: Why a file is unusable, by number.
    """

    def __init__(self, paths: Sequence[Path], labels: Any, preprocessing: Preprocessing) -> None:
        self.paths = list(paths)
        self.looks: dict[int, Look] = {}
        self.problems: dict[int, str] = {}
        self.targets = np.asarray(labels, dtype=np.int64)
        self.preprocessing = preprocessing

    def pixels(self, index: int) -> Tensor:
        """The decoded image in the model's size."""
        return sized(read_image(self.paths[index], self.preprocessing.pixel_range), self.preprocessing)

    def finish(self, pixels: Tensor) -> Tensor:
        """Normalised."""
        return normalise(pixels, self.preprocessing)

    def identity(self, index: int) -> bytes:
        """The file's bytes."""
        return self.paths[index].read_bytes()

    def readable(self, index: int) -> bool:
        """Whether the file decodes to its end; what was seen is kept."""
        found = look_at(self.paths[index])
        if isinstance(found, Look):
            self.looks[index] = found
        else:
            self.problems[index] = found
        return isinstance(found, Look)

    @property
    def first_problem(self) -> str:
        """Why the first unusable file is unusable."""
        return f"; the first: {self.problems[min(self.problems)]}" if self.problems else ""


class ForeignSet(SampleSet):
    """A dataset from elsewhere, each item checked when it is read.

    An item is an image or an (image, label) pair. A PIL image or a uint8 tensor is prepared like any other image; a
    floating tensor counts as finished: scaled, normalised, of the model's input shape.

    Args:
        source: A map-style dataset.
        labels: (samples,)
        name: For messages.
        preprocessing: What the model expects.
    """

    as_they_come = False
    """Whether targets are handed on as the dataset has them."""

    def __init__(self, source: Any, labels: Any, *, name: str, preprocessing: Preprocessing) -> None:
        self.source = source
        self.targets = np.asarray(labels, dtype=np.int64)
        self.name = name
        self.preprocessing = preprocessing

    def pixels(self, index: int) -> Tensor:
        """The finished input: what a foreign set yields may be anything."""
        return finished(self.raw(index), self.preprocessing, f"{self.name}, sample {index}")

    def finish(self, pixels: Tensor) -> Tensor:
        """As it is."""
        return pixels

    def target(self, index: int) -> Any:
        """The label, or what stands behind the image."""
        if not self.as_they_come or self.targets[index] >= 0:
            return int(self.targets[index])
        item = self.source[index]
        return item[1] if isinstance(item, tuple | list) and len(item) > 1 else -1

    @property
    def prepares(self) -> bool:
        """Whether its images are prepared, and not finished when they come; told by the first."""
        return not self.comes_finished(0)

    def comes_finished(self, index: int) -> bool:
        """Whether a sample goes to the network as it comes."""
        raw = self.raw(index)
        return bool(self.preprocessing.inputs) or (isinstance(raw, Tensor) and raw.is_floating_point())

    def raw(self, index: int) -> Any:
        """The image as it comes."""
        hint = "Fix the dataset."
        with border(lambda why: DataError(f"{self.name}, sample {index}, cannot be read: {why}", hint=hint)):
            item = self.source[index]
            return item[0] if isinstance(item, tuple | list) else item

    def identity(self, index: int) -> bytes:
        """The finished input's values."""
        return self[index][0].contiguous().numpy().tobytes()


class Part(SampleSet):
    """Some samples of another set.

    Args:
        source: The whole.
        indices: (samples,) numbers in ``source``.
        augmentation: What may be done to its images in training; nothing is done here.
    """

    def __init__(
        self, source: SampleSet, indices: NDArray[np.intp], *, augmentation: Augmentation | None = None
    ) -> None:
        self.source = source
        self.indices = np.asarray(indices, dtype=np.intp)
        self.targets = source.targets[self.indices]
        self.augmentation = augmentation

    def pixels(self, index: int) -> Tensor:
        """Those of the sample in the whole."""
        return self.source.pixels(int(self.indices[index]))

    def finish(self, pixels: Tensor) -> Tensor:
        """As the whole does it."""
        return self.source.finish(pixels)

    def target(self, index: int) -> Any:
        """That of the sample in the whole."""
        return self.source.target(int(self.indices[index]))

    def identity(self, index: int) -> bytes:
        """That of the sample in the whole."""
        return self.source.identity(int(self.indices[index]))
