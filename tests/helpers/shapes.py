"""Point clouds and graphs whose Betti numbers are known, and a few ways to make them."""

import numpy as np

from topocompress.topology import pairwise_distances


def graph_of(vertices: int, edges) -> np.ndarray:
    graph = np.zeros((vertices, vertices), dtype=bool)
    for first, second in edges:
        graph[first, second] = graph[second, first] = True
    return graph


def cycle(vertices: int) -> np.ndarray:
    return graph_of(vertices, [(v, (v + 1) % vertices) for v in range(vertices)])


def complete(vertices: int) -> np.ndarray:
    return ~np.eye(vertices, dtype=bool)


def octahedron() -> np.ndarray:
    return complete(6) & ~graph_of(6, [(0, 1), (2, 3), (4, 5)])


def disjoint(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    both = np.zeros((len(one) + len(other),) * 2, dtype=bool)
    both[: len(one), : len(one)] = one
    both[len(one) :, len(one) :] = other
    return both


def strong_product(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Its clique complex is, up to homotopy, the product of the two clique complexes."""
    near = np.kron(one | np.eye(len(one), dtype=bool), other | np.eye(len(other), dtype=bool))
    return near & ~np.eye(len(near), dtype=bool)


def circle(points: int, radius: float = 1.0) -> np.ndarray:
    angles = 2 * np.pi * np.arange(points) / points
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def flat_torus(points: int) -> np.ndarray:
    """points² places on the product of two unit circles, in four dimensions."""
    one = circle(points)
    return np.concatenate([np.repeat(one, points, axis=0), np.tile(one, (points, 1))], axis=1)


def icosahedron() -> np.ndarray:
    """Its 12 corners; the edges have length 2."""
    golden = (1 + 5**0.5) / 2
    corners = [(0, a, b * golden) for a in (-1, 1) for b in (-1, 1)]
    return np.array([np.roll(corner, turn) for corner in corners for turn in range(3)])


def fibonacci_sphere(points: int) -> np.ndarray:
    places = np.arange(points) + 0.5
    heights, angles = 1 - 2 * places / points, np.pi * (1 + 5**0.5) * places
    rims = np.sqrt(1 - heights**2)
    return np.stack([rims * np.cos(angles), rims * np.sin(angles), heights], axis=1)


def distances_of(points: np.ndarray) -> np.ndarray:
    """(samples, samples) float32 distances of (samples, features) points, by the library."""
    return pairwise_distances(points.astype(np.float32))
