"""Reductions against Betti numbers that were counted without them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.oracles import components, few, graphs, gudhi_betti, near_graph, random_graph
from tests.helpers.shapes import complete, cycle, disjoint, graph_of, octahedron, strong_product
from topocompress.topology import pack, unpack
from topocompress.topology.reduction import count_components, reduce


def reduced(graph: np.ndarray, keep_type: bool) -> tuple[np.ndarray, int]:
    """What is left, and the difference of β1 - β0."""
    rows, difference = reduce(pack(graph), keep_type)
    left = unpack(rows)
    assert np.array_equal(left, left.T)
    assert len(left) <= len(graph)
    assert left.sum() <= graph.sum()
    return left, int(difference)


def assert_lawful(graph: np.ndarray) -> None:
    expected = gudhi_betti(graph)
    core, difference = reduced(graph, True)
    assert difference == 0
    assert gudhi_betti(core) == expected
    core, difference = reduced(graph, False)
    found = gudhi_betti(core)
    assert difference + found[1] - found[0] == expected[1] - expected[0]
    assert count_components(pack(graph)) == expected[0] == components(graph)


TORUS = strong_product(cycle(4), cycle(4))
SPHERES = disjoint(disjoint(octahedron(), octahedron()), cycle(5))


@few(300)
@given(graphs(11))
def test_any_small_graph(graph):
    assert_lawful(graph)


@few(150)
@given(st.integers(5, 30), st.floats(0.05, 0.95), st.integers(0, 2**32 - 1))
def test_random_graphs(vertices, share, seed):
    if share > 0.7:
        vertices = min(vertices, 16)  # cliques would fill the oracle
    assert_lawful(random_graph(vertices, share, seed))


@few(60)
@given(st.integers(10, 45), st.floats(0.05, 0.4), st.sampled_from([2, 3, 10]), st.integers(0, 2**32 - 1))
def test_graphs_of_near_pairs(vertices, share, dimension, seed):
    assert_lawful(near_graph(vertices, share, seed, dimension))


@pytest.mark.parametrize(
    ("vertices", "share"), [(66, 0.06), (66, 0.2), (129, 0.03), (129, 0.08), (200, 0.02), (200, 0.05), (130, 0.12)]
)
@pytest.mark.parametrize("make", [random_graph, near_graph])
def test_graphs_of_several_words(make, vertices, share):
    assert_lawful(make(vertices, share, seed=vertices))


@pytest.mark.parametrize("parts", [2, 3, 5])
@pytest.mark.parametrize("size", [30, 50])
def test_dense_graphs_of_several_words(parts, size):
    # All edges between parts without edges: a join, whose reduced homology has dimension parts - 1.
    places = np.arange(parts * size)
    graph = places[:, None] % parts != places[None] % parts
    holes = (size - 1) ** parts
    expected = (1, holes if parts == 2 else 0, holes if parts == 3 else 0)

    typed, _ = reduced(graph, True)
    core, difference = reduced(graph, False)

    assert np.array_equal(typed, graph)  # nothing in it is dominated
    found = gudhi_betti(core) if len(core) < 40 else expected
    assert difference + found[1] - found[0] == expected[1] - expected[0]


@pytest.mark.parametrize("missing", [3, 40])
def test_dense_graphs_that_are_cones(missing):
    graph = complete(140)
    for vertex in range(missing):
        graph[vertex, vertex + 60] = graph[vertex + 60, vertex] = False

    assert len(reduced(graph, True)[0]) == 1
    assert_points(*reduced(graph, False))


def assert_points(core: np.ndarray, difference: int) -> None:
    """What is left has the β1 - β0 of a point: a point, or nothing."""
    assert (len(core), difference) in [(1, 0), (0, -1)]


@pytest.mark.parametrize("order", range(3))
@pytest.mark.parametrize(
    ("name", "graph", "expected"),
    [
        ("one vertex", graph_of(1, []), (1, 0, 0)),
        ("no edge", graph_of(70, []), (70, 0, 0)),
        ("4-cycle", cycle(4), (1, 1, 0)),
        ("130-cycle", cycle(130), (1, 1, 0)),
        ("complete", complete(129), (1, 0, 0)),
        ("octahedron", octahedron(), (1, 0, 1)),
        ("torus", TORUS, (1, 2, 1)),
        ("torus of 9 by 8", strong_product(cycle(9), cycle(8)), (1, 2, 1)),
        ("spheres and a loop", SPHERES, (3, 1, 2)),
    ],
)
def test_graphs_worked_out_by_hand(name, graph, expected, order):
    places = np.random.default_rng(order).permutation(len(graph)) if order else np.arange(len(graph))
    graph = graph[np.ix_(places, places)]

    core, difference = reduced(graph, False)
    typed, _ = reduced(graph, True)

    found = gudhi_betti(core)
    assert difference + found[1] - found[0] == expected[1] - expected[0]
    assert gudhi_betti(typed) == expected


@pytest.mark.parametrize("keep_type", [True, False])
@pytest.mark.parametrize("vertices", [2, 64, 65, 200])
def test_a_cone_shrinks_to_one_vertex(vertices, keep_type):
    graph = random_graph(vertices, 0.3, seed=5)
    graph[0] = graph[:, 0] = True
    graph[0, 0] = False

    core, difference = reduced(graph, keep_type)

    assert_points(core, difference)
    assert len(core) == 1 or not keep_type


def test_without_the_type_loops_go_too():
    core, difference = reduced(cycle(4), False)
    assert (len(core), difference) in [(0, 0), (1, 1)]

    core, _ = reduced(cycle(4), True)
    assert np.array_equal(core, cycle(4))


def test_spheres_stay():
    assert np.array_equal(reduced(octahedron(), True)[0], octahedron())


@pytest.mark.parametrize("vertices", [1, 2, 63, 64, 65, 129, 300])
@pytest.mark.parametrize("share", [0.0, 0.005, 0.02, 1.0])
def test_components_are_counted_over_several_words(vertices, share):
    graph = random_graph(vertices, share, seed=7)

    assert count_components(pack(graph)) == components(graph)
