"""Random scores: the control every criterion has to beat."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from topocompress.criteria.base import WeightCriterion, whole
from topocompress.types import Direction


class Random(WeightCriterion):
    """Uniform random numbers: the control (higher: keep).

    Args:
        seed: Seed of the numbers. They depend on it and on the layer's weights, so layers of one shape differ.
    """

    name: ClassVar[str] = "random"
    higher: Direction = "keep"

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = whole("seed", seed, 0)

    def score(self, weight: Tensor) -> Tensor:
        """Numbers in 0..1, (filters,)."""
        salt = int(weight.detach().flatten().view(torch.int32).sum(dtype=torch.int64)) & 0x7FFFFFFF
        generator = torch.Generator().manual_seed((self.seed * 0x9E3779B1 + salt) & 0x7FFFFFFFFFFFFFFF)
        return torch.rand(len(weight), generator=generator)
