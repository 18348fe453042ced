"""The L2 norm of a filter's weights."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from topocompress.criteria.base import WeightCriterion
from topocompress.types import Direction


class L2(WeightCriterion):
    """L2 norm of the filter's weights (higher: keep).

    He, Kang, Dong, Fu & Yang, "Soft Filter Pruning for Accelerating Deep Convolutional Neural Networks", IJCAI 2018,
    arXiv:1808.06866.
    """

    name: ClassVar[str] = "l2"
    higher: Direction = "keep"

    def score(self, weight: Tensor) -> Tensor:
        """Root of the sum of squared weights, (filters,)."""
        return weight.flatten(1).square().sum(dim=1).sqrt()
