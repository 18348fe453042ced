"""Minimum spanning trees: the H0 persistence of a point cloud, edge by edge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def spanning_tree(points: NDArray[np.float64]) -> NDArray[np.intp]:
    """The edges of the minimum spanning tree of a point cloud, by Prim's algorithm.

    Their lengths are the death times of the cloud's H0 persistence. Equal lengths go by index.

    Args:
        points: (samples, features).

    Returns:
        (samples - 1, 2) pairs of points, the one that joins the tree second.
    """
    count = len(points)
    edges = np.empty((max(0, count - 1), 2), dtype=np.intp)
    nearest = np.zeros(count, dtype=np.intp)
    length = np.full(count, np.inf)
    inside = np.zeros(count, dtype=np.bool_)
    newest = 0
    for index in range(count - 1):
        inside[newest] = True
        squared = np.square(points - points[newest]).sum(axis=1)
        closer = squared < length
        length[closer], nearest[closer] = squared[closer], newest
        newest = int(np.argmin(np.where(inside, np.inf, length)))
        edges[index] = nearest[newest], newest
    return edges
