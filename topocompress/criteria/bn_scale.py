"""The scale that BatchNorm has learned for a filter."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from topocompress.criteria.base import NormCriterion
from topocompress.types import Direction


class BNScale(NormCriterion):
    """Size of the scale γ that the norm behind the filter has learned (higher: keep).

    Liu, Li, Shen, Huang, Yan & Zhang, "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017,
    arXiv:1708.06519. There the network is first trained with an L1 penalty on γ; here it is taken as it is.
    """

    name: ClassVar[str] = "bn-scale"
    higher: Direction = "keep"

    def score(self, scale: Tensor) -> Tensor:
        """|γ|, (filters,)."""
        return scale.abs()
