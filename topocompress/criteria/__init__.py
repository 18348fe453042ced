"""Criteria: one algorithm per file, under its published name, found through :mod:`topocompress.criteria.registry`.

They are imported on first use: the processes that score clouds need neither the others nor torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from topocompress.criteria.base import CloudCriterion, Criterion, WeightCriterion

if TYPE_CHECKING:
    from topocompress.criteria.betti import Betti
    from topocompress.criteria.l1 import L1
    from topocompress.criteria.random import Random

_HOMES = {"Betti": "betti", "L1": "l1", "Random": "random"}

__all__ = ["L1", "Betti", "CloudCriterion", "Criterion", "Random", "WeightCriterion"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'topocompress.criteria' has no attribute {name!r}")
    return getattr(importlib.import_module(f"topocompress.criteria.{_HOMES[name]}"), name)
