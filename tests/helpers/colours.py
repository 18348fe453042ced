"""A network that knows colours and is always right, and folders of images in these colours: labels that shift show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from topocompress.models.loading import LoadedModel
from topocompress.types import Architecture, Preprocessing


class Colours(nn.Module):
    """Which of so many hues on a circle in red and green an image has, (samples, 3, 16, 16) -> (samples, hues)."""

    input_shape = (3, 16, 16)

    def __init__(self, hues: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.second = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, hues)
        with torch.no_grad():
            for layer in (self.first, self.second, self.head):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
            for channel in range(8):  # red and green, above and below grey, each twice
                sign = 1 if channel % 4 < 2 else -1
                self.first.weight[channel, channel % 2] = sign
                self.first.bias[channel] = -sign / 2
                self.second.weight[channel, channel] = 1
                for hue in range(hues):
                    self.head.weight[hue, channel] = 20 * sign * direction(hue, hues)[channel % 2]

    def forward(self, images: Tensor) -> Tensor:
        maps = self.second(self.first(images).relu()).relu()
        scores: Tensor = self.head(maps.mean((2, 3)))
        return scores


def direction(hue: int, hues: int) -> tuple[float, float]:
    angle = 2 * math.pi * hue / hues
    return math.cos(angle), math.sin(angle)


def colours(hues: int, classes: tuple[str, ...] = ()) -> LoadedModel:
    """The network, loaded."""
    return LoadedModel(
        module=Colours(hues).eval(),
        architecture=Architecture(kind="factory", name="tests.helpers.colours:Colours"),
        preprocessing=Preprocessing(input_shape=(3, 16, 16), mean=(0.0,) * 3, std=(1.0,) * 3),
        source="colours",
        classes=classes,
    )


def paint(root: Path, folders: Mapping[str, int], hues: int, *, count: int = 10) -> Path:
    """Write ``count`` images of a hue into each folder; a negative hue leaves the folder empty."""
    random = np.random.default_rng(0)
    for folder, hue in folders.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count if hue >= 0 else 0):
            red, green = direction(hue, hues)
            pixels = np.full((16, 16, 3), 0.5) + np.array([0.4 * red, 0.4 * green, 0.0])
            noisy = np.clip(pixels + random.normal(0, 0.02, pixels.shape), 0, 1)
            Image.fromarray((255 * noisy).astype(np.uint8)).save(root / folder / f"{number:02d}.png")
    return root
