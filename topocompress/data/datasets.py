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
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

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


class PhotoCrops(SampleSet):
    """Random crops of a few photographs, unlabelled; each depends on nothing but the seed and its number.

    The right ``EVALUATION_SHARE`` of every photograph serves the evaluation crops alone, so that these share no pixel
    with the others.

    Args:
        photographs: Each (3, height, width) uint8.
        used: Number of crops that are not for evaluation; they come first.
        evaluation: Number of evaluation crops.
        seed: Seed of all crops.
        preprocessing: What the model expects.
    """

    EVALUATION_SHARE = 0.3

    def __init__(
        self,
        photographs: Sequence[Tensor],
        *,
        used: int,
        evaluation: int,
        seed: int,
        preprocessing: Preprocessing,
    ) -> None:
        self.photographs = list(photographs)
        self.first_evaluation = used
        self.targets = np.full(used + evaluation, -1, dtype=np.int64)
        self.seed = seed
        self.preprocessing = preprocessing

    def region(self, photograph: Tensor, *, evaluation: bool) -> Tensor:
        """The part of a photograph from which such crops are taken, (3, height, width)."""
        border = round(photograph.shape[2] * (1 - self.EVALUATION_SHARE))
        return photograph[:, :, border:] if evaluation else photograph[:, :, :border]

    def pixels(self, index: int) -> Tensor:
        """The crop in the model's size."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        evaluation = index >= self.first_evaluation
        number = index - self.first_evaluation if evaluation else index
        rng = np.random.default_rng([self.seed, int(evaluation), number])
        photograph = self.photographs[rng.integers(len(self.photographs))]
        return self._crop(self.region(photograph, evaluation=evaluation), rng)

    def finish(self, pixels: Tensor) -> Tensor:
        """Normalised."""
        return normalise(pixels, self.preprocessing)

    def _crop(self, region: Tensor, rng: np.random.Generator) -> Tensor:
        size = self.preprocessing.input_shape[1:]
        height, width = region.shape[1:]
        area = rng.uniform(0.1, 1.0) * height * width
        ratio = size[1] / size[0] * np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        h = int(np.clip(round((area / ratio) ** 0.5), 1, height))
        w = int(np.clip(round((area * ratio) ** 0.5), 1, width))
        top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        mode = InterpolationMode(self.preprocessing.interpolation)
        crop = F.resized_crop(region, top, left, h, w, list(size), interpolation=mode, antialias=True)
        if rng.random() < 0.5:
            crop = F.horizontal_flip(crop)
        crop = F.adjust_brightness(crop, rng.uniform(0.7, 1.3))
        crop = F.adjust_contrast(crop, rng.uniform(0.7, 1.3))
        changed: Tensor = F.adjust_saturation(crop, rng.uniform(0.7, 1.3))
        return changed

    def identity(self, index: int) -> bytes:
        """The seed and the number; the photographs are always the same."""
        return f"crop|{self.seed}|{self.first_evaluation}|{index}".encode()


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
