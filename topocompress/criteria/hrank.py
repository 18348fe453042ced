"""The rank of a filter's maps."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from topocompress.criteria.base import MapCriterion, whole
from topocompress.types import Direction


class HRank(MapCriterion):
    """Mean rank of the filter's maps (higher: keep).

    Lin, Ji, Wang, Zhang, Zhang, Tian & Shao, "HRank: Filter Pruning using High-Rank Feature Map", CVPR 2020,
    arXiv:2002.10179. A map of h × w numbers is taken as a matrix; its rank is averaged over the samples.

    Args:
        samples: Samples that are read at most. The paper finds 500 images to be more than enough.
    """

    name: ClassVar[str] = "hrank"
    higher: Direction = "keep"

    def __init__(self, *, samples: int = 500) -> None:
        self.most_samples = whole("samples", samples, 1)

    def score(self, maps: Tensor) -> Tensor:
        """Rank of each map, (samples, filters)."""
        ranks: Tensor = torch.linalg.matrix_rank(maps)
        return ranks.double()
