"""Criteria: one algorithm per file, under its published name, found through :mod:`topocompress.criteria.registry`.

They are imported on first use: the processes that score clouds need neither the others nor torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from topocompress.criteria.base import (
    CloudCriterion,
    Criterion,
    GradientCriterion,
    MapCriterion,
    NormCriterion,
    WeightCriterion,
)

if TYPE_CHECKING:
    from topocompress.criteria.betti import Betti
    from topocompress.criteria.bn_scale import BNScale
    from topocompress.criteria.chip import CHIP
    from topocompress.criteria.fpgm import FPGM
    from topocompress.criteria.hrank import HRank
    from topocompress.criteria.l1 import L1
    from topocompress.criteria.l2 import L2
    from topocompress.criteria.persistence import Persistence
    from topocompress.criteria.random import Random
    from topocompress.criteria.taylor import Taylor

_HOMES = {
    "BNScale": "bn_scale",
    "Betti": "betti",
    "CHIP": "chip",
    "FPGM": "fpgm",
    "HRank": "hrank",
    "L1": "l1",
    "L2": "l2",
    "Persistence": "persistence",
    "Random": "random",
    "Taylor": "taylor",
}

__all__ = [
    "CHIP",
    "FPGM",
    "L1",
    "L2",
    "BNScale",
    "Betti",
    "CloudCriterion",
    "Criterion",
    "GradientCriterion",
    "HRank",
    "MapCriterion",
    "NormCriterion",
    "Persistence",
    "Random",
    "Taylor",
    "WeightCriterion",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'topocompress.criteria' has no attribute {name!r}")
    return getattr(importlib.import_module(f"topocompress.criteria.{_HOMES[name]}"), name)
