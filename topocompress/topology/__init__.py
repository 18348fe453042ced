"""Betti numbers of feature clouds: distances, scales, graphs, reductions, persistence.

The Betti numbers of the Vietoris–Rips complex at one scale ε depend only on the ε-graph (the complex is the graph's
clique complex), so that graph is the working object here: the filtration beyond ε is never built.
"""

from __future__ import annotations

import importlib
from typing import Any

from topocompress.topology.backends import choose_backend, persistence_diagrams
from topocompress.topology.betti import betti_numbers
from topocompress.topology.bits import pack, unpack
from topocompress.topology.distances import mean_distance, pairwise_distances
from topocompress.topology.graphs import Graph, neighbourhood_graph
from topocompress.topology.scale import Scale

# These run networks, and stand above what runs networks: they are looked up when asked for. The rest needs no torch.
_OF_LAYERS = ("LayerBetti", "class_bettis", "layer_bettis")

__all__ = [
    "Graph",
    "Scale",
    "betti_numbers",
    "choose_backend",
    "mean_distance",
    "neighbourhood_graph",
    "pack",
    "pairwise_distances",
    "persistence_diagrams",
    "unpack",
]


def __getattr__(name: str) -> Any:
    if name not in _OF_LAYERS:
        raise AttributeError(f"module 'topocompress.topology' has no attribute {name!r}")
    return getattr(importlib.import_module("topocompress.topology.layers"), name)
