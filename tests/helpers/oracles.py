"""Betti numbers, distances and graphs by other means: gudhi, double precision, exact fractions."""

import itertools
import math
from fractions import Fraction

import gudhi
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st


def few(examples: int = 40):
    return settings(max_examples=examples)


@st.composite
def graphs(draw, most: int = 12) -> np.ndarray:
    """Any graph on 1 to ``most`` vertices."""
    vertices = draw(st.integers(1, most))
    pairs = vertices * (vertices - 1) // 2
    chosen = draw(st.lists(st.booleans(), min_size=pairs, max_size=pairs))
    graph = np.zeros((vertices, vertices), dtype=bool)
    graph[np.triu_indices(vertices, 1)] = chosen
    return graph | graph.T


@st.composite
def clouds(draw, most: int = 16) -> np.ndarray:
    samples, features = draw(st.integers(2, most)), draw(st.integers(1, 3))
    return np.random.default_rng(draw(st.integers(0, 2**32 - 1))).standard_normal((samples, features))


def random_graph(vertices: int, share: float, seed: int) -> np.ndarray:
    """Every pair is joined with the same chance."""
    upper = np.triu(np.random.default_rng(seed).random((vertices, vertices)) < share, 1)
    return upper | upper.T


def near_graph(vertices: int, share: float, seed: int, dimension: int = 3) -> np.ndarray:
    """The nearest pairs of a normal cloud are joined, as in the graphs that scoring meets."""
    distances = exact_squares(np.random.default_rng(seed).standard_normal((vertices, dimension)))
    graph = distances <= np.quantile(distances[np.triu_indices(vertices, 1)], share)
    return graph & ~np.eye(vertices, dtype=bool)


def gudhi_betti(graph: np.ndarray) -> tuple[int, ...]:
    tree = gudhi.SimplexTree()
    for vertex in range(len(graph)):
        tree.insert([vertex])
    for edge in zip(*np.nonzero(np.triu(graph)), strict=True):
        tree.insert(edge)
    tree.expansion(3)
    return gudhi_count(tree)


def gudhi_count(tree: gudhi.SimplexTree) -> tuple[int, ...]:
    tree.compute_persistence(homology_coeff_field=2, min_persistence=-1, persistence_dim_max=True)
    return tuple([*tree.betti_numbers(), 0, 0, 0][:3])


def exact_squares(points: np.ndarray) -> np.ndarray:
    """Squared distances from differences in double precision."""
    points = points.astype(np.float64)
    return np.stack([((points - point) ** 2).sum(axis=1) for point in points])


def fractions_of(products: np.ndarray) -> list[list[Fraction]]:
    """Inner products of the rows, without any rounding."""
    rows = [[Fraction(float(number)) for number in row] for row in products]
    return [[sum(map(Fraction.__mul__, one, other), Fraction()) for other in rows] for one in rows]


def smallest_with_share(squares: np.ndarray, share: float) -> float:
    """The smallest squared distance within which at least a share of all pairs lies."""
    pairs = np.sort(squares[np.triu_indices(len(squares), 1)])
    return next(float(square) for count, square in enumerate(pairs, 1) if count >= round(share * len(pairs), 6))


def within(squares: np.ndarray, square: float) -> np.ndarray:
    return (squares <= square) & ~np.eye(len(squares), dtype=bool)


def components(graph: np.ndarray) -> int:
    """Connected components, by merging sets."""
    parts = [{v} for v in range(len(graph))]
    for a, b in zip(*np.nonzero(graph), strict=True):
        joined = [part for part in parts if a in part or b in part]
        parts = [part for part in parts if part not in joined] + [set().union(*joined)]
    return len(parts)


def count_cliques(graph: np.ndarray, size: int) -> int:
    chosen = itertools.combinations(range(len(graph)), size)
    return sum(all(graph[a, b] for a, b in itertools.combinations(some, 2)) for some in chosen)


def euler_characteristic(graph: np.ndarray) -> int:
    return sum((-1) ** (size - 1) * count_cliques(graph, size) for size in range(1, len(graph) + 1))


def norm(row: np.ndarray) -> float:
    return math.sqrt(sum(float(number) ** 2 for number in row))
