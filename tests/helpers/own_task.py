"""A task of a user's own: masks that a small network segments, with a metric and a loss for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from tests.helpers.output_kinds import Kind, images, made, unlabelled
from topocompress.data.loading import Data


def network() -> nn.Module:
    """(samples, 1, 16, 16) logits, beside a text."""
    return made(lambda: Kind(lambda x: {"mask": x, "note": "text"}, 1, dense=True))


network.input_shape = (3, 16, 16)


class Masks(Dataset):
    """Noise, and what the network segments of it; in a dict with another thing."""

    def __init__(self, start: int, stop: int) -> None:
        self.images = images()[start:stop]
        with torch.no_grad():
            self.masks = (network()(self.images)["mask"] > 0)[:, 0]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        if index >= len(self):
            raise IndexError(index)
        return self.images[index], {"mask": self.masks[index], "boxes": torch.zeros(index % 3, 4)}


def masks() -> Dataset:
    """A factory of data."""
    return Masks(0, 80)


def iou(batches: Iterable[tuple[Any, Any]]) -> float:
    """Intersection over union of all pixels."""
    both = either = 0
    for outputs, targets in batches:
        found, truth = outputs["mask"][:, 0] > 0, torch.stack([target["mask"] for target in targets])
        both += int((found & truth).sum())
        either += int((found | truth).sum())
    return both / max(1, either)


def error(batches: Iterable[tuple[Any, Any]]) -> Tensor:
    """The share of wrong pixels."""
    wrong = [
        ((outputs["mask"][:, 0] > 0) != torch.stack([target["mask"] for target in targets])).double().mean()
        for outputs, targets in batches
    ]
    return torch.stack(wrong).mean()


error.lower_is_better = True


def loss(outputs: Any, targets: Any) -> Tensor:
    """Binary cross-entropy."""
    truth = torch.stack([target["mask"] for target in targets]).float()
    return F.binary_cross_entropy_with_logits(outputs["mask"][:, 0], truth)


def data() -> Data:
    """Loaded data."""
    return replace(unlabelled(), calibration=Masks(0, 40), train=Masks(40, 64), evaluation=Masks(64, 96))
