"""The L1 norm of a filter's weights."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from topocompress.criteria.base import WeightCriterion
from topocompress.types import Direction


class L1(WeightCriterion):
    """L1 norm of the filter's weights (higher: keep).

    Li, Kadav, Durdanovic, Samet & Graf, "Pruning Filters for Efficient ConvNets", ICLR 2017, arXiv:1608.08710.
    """

    name: ClassVar[str] = "l1"
    higher: Direction = "keep"

    def score(self, weight: Tensor) -> Tensor:
        """Sum of absolute weights, (filters,)."""
        return weight.flatten(1).abs().sum(dim=1)
