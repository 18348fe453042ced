"""What the benchmark's processes run; without torch, like the scoring processes themselves."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topocompress.topology import Scale, betti_numbers, neighbourhood_graph
from topocompress.topology.distances import Squares

DEFAULT = Scale.parse("quantile:0.2")


def judge(cloud: NDArray[np.float32]) -> tuple[int, int, float]:
    """β0, β1 and ε of a (samples, features) cloud, by topocompress."""
    graph = neighbourhood_graph(cloud, DEFAULT)
    parts, loops = betti_numbers(graph.rows)
    return parts, loops, graph.epsilon


def judge_all(clouds: NDArray[np.float32]) -> list[tuple[int, int, float]]:
    """The same of some (filters, samples, features) clouds."""
    return [judge(cloud) for cloud in clouds]


def stages(cloud: NDArray[np.float32]) -> dict[str, float]:
    """Seconds of the three stages: matrix product, graph, Betti numbers."""
    started = time.perf_counter()
    Squares.of(cloud)
    product = time.perf_counter()
    graph = neighbourhood_graph(cloud, DEFAULT)
    joined = time.perf_counter()
    betti_numbers(graph.rows)
    done = time.perf_counter()
    return {
        "product": product - started,
        "graph": max(1e-9, joined - product - (product - started)),
        "betti": done - joined,
    }


def alive_at(diagrams: list[NDArray[Any]], epsilon: float) -> tuple[int, int]:
    """β0 and β1 at a scale, off persistence diagrams in single precision."""
    here = np.float32(epsilon)
    first, second = (int(((bars[:, 0] <= here) & (bars[:, 1] > here)).sum()) for bars in diagrams[:2])
    return first, second


def by_giotto(cloud: NDArray[np.float32], epsilon: float) -> tuple[int, int]:
    """The whole filtration, as a user of giotto-ph writes it."""
    from gph import ripser_parallel

    return alive_at(ripser_parallel(cloud)["dgms"], epsilon)


def by_giotto_on_two_threads(cloud: NDArray[np.float32], epsilon: float) -> tuple[int, int]:
    """The same, with the threads that giotto-ph offers."""
    from gph import ripser_parallel

    return alive_at(ripser_parallel(cloud, n_threads=2)["dgms"], epsilon)


def by_giotto_up_to(cloud: NDArray[np.float32], epsilon: float) -> tuple[int, int]:
    """giotto-ph up to ε alone."""
    from gph import ripser_parallel

    return alive_at(ripser_parallel(cloud, thresh=np.float32(epsilon))["dgms"], epsilon)


def by_ripser_up_to(cloud: NDArray[np.float32], epsilon: float) -> tuple[int, int]:
    """ripser.py up to ε alone."""
    from ripser import ripser

    return alive_at(ripser(cloud, thresh=np.float32(epsilon))["dgms"], epsilon)


def by_gudhi_up_to(cloud: NDArray[np.float32], epsilon: float) -> tuple[int, int]:
    """GUDHI up to ε alone, with its edge collapse."""
    from gudhi import RipsComplex
    from scipy.spatial.distance import pdist, squareform

    distances = squareform(pdist(cloud.astype(np.float64)))
    tree = RipsComplex(distance_matrix=distances, max_edge_length=epsilon * (1 + 1e-12)).create_simplex_tree(1)
    tree.collapse_edges()
    tree.expansion(2)
    tree.compute_persistence()
    bettis = [*tree.betti_numbers(), 0, 0]
    return int(bettis[0]), int(bettis[1])
