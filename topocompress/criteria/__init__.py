"""Criteria: one algorithm per file, under its published name, found through :mod:`topocompress.criteria.registry`."""

from topocompress.criteria.base import CloudCriterion, Criterion, WeightCriterion
from topocompress.criteria.betti import Betti
from topocompress.criteria.l1 import L1
from topocompress.criteria.random import Random

__all__ = ["L1", "Betti", "CloudCriterion", "Criterion", "Random", "WeightCriterion"]
