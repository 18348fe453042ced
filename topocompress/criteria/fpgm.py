"""The distance of a filter's weights from those of the other filters of its layer."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from topocompress.criteria.base import WeightCriterion
from topocompress.types import Direction


class FPGM(WeightCriterion):
    """Distance of the filter's weights from all others of its layer (higher: keep).

    He, Liu, Wang, Hu & Yang, "Filter Pruning via Geometric Median for Deep Convolutional Neural Networks
    Acceleration", CVPR 2019, arXiv:1811.00250: the filters nearest to the geometric median of a layer are those whose
    sum of distances to all others is least, and others can stand in for them.
    """

    name: ClassVar[str] = "fpgm"
    higher: Direction = "keep"

    def score(self, weight: Tensor) -> Tensor:
        """Sum of the Euclidean distances to the layer's other filters, (filters,)."""
        flat = weight.flatten(1).double()
        return torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist").sum(dim=1)
