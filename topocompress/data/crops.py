"""Crops of photographs, which stand in where there are no images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from topocompress.data.datasets import SampleSet
from topocompress.data.images import normalise
from topocompress.types import Preprocessing


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
