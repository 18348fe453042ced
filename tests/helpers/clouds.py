"""Clouds of points and the edges of graphs."""

import numpy as np

from topocompress.topology import Scale, neighbourhood_graph, unpack


def normal(samples: int, features: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((samples, features)).astype(np.float32)


def edges(graph: np.ndarray) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in zip(*np.nonzero(np.triu(graph)), strict=True)]


def joined(points: np.ndarray, scale: str, **options) -> np.ndarray:
    return unpack(neighbourhood_graph(points, Scale.parse(scale), **options).rows)
