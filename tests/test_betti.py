import importlib.util
import itertools

import gudhi
import numpy as np
import pytest
import shapes
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import circle, complete, components, count_cliques, cycle, disjoint, distances_of, graph_of, octahedron

from topocompress.errors import TopologyError
from topocompress.topology import Scale, betti_numbers, neighbourhood_graph, persistence_diagrams

ALL = (0, 1, 2)
BACKENDS = ("gph", "ripser")
_find_spec = importlib.util.find_spec


def use_only(monkeypatch, *backends: str) -> None:
    hidden = set(BACKENDS) - set(backends)
    monkeypatch.setattr(
        "topocompress.topology.importlib.util.find_spec",
        lambda name, *rest: None if name in hidden else _find_spec(name, *rest),
    )


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch) -> str:
    pytest.importorskip(request.param)
    use_only(monkeypatch, request.param)
    return request.param


@st.composite
def graphs(draw, most: int = 12) -> np.ndarray:
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


def few(examples: int = 40):
    return settings(max_examples=examples, deadline=None, derandomize=True)


def betti_at(points: np.ndarray, scale: str, dimensions=ALL) -> tuple[int, ...]:
    return betti_numbers(neighbourhood_graph(distances_of(points), Scale.parse(scale)), dimensions)


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


# --- Betti numbers worked out by hand ---

BOWTIE = graph_of(5, [(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (4, 2)])
FIGURE_EIGHT = graph_of(7, [(0, 1), (1, 2), (2, 3), (3, 0), (3, 4), (4, 5), (5, 6), (6, 3)])
K33 = graph_of(6, [(a, b) for a in (0, 1, 2) for b in (3, 4, 5)])

GRAPHS = {
    "one vertex": (graph_of(1, []), (1, 0, 0)),
    "no edge": (graph_of(5, []), (5, 0, 0)),
    "complete": (complete(6), (1, 0, 0)),
    "triangle is filled": (cycle(3), (1, 0, 0)),
    "4-cycle is a loop": (cycle(4), (1, 1, 0)),
    "9-gon": (cycle(9), (1, 1, 0)),
    "path": (graph_of(4, [(0, 1), (1, 2), (2, 3)]), (1, 0, 0)),
    "bowtie of triangles": (BOWTIE, (1, 0, 0)),
    "figure eight": (FIGURE_EIGHT, (1, 2, 0)),
    "complete bipartite 3+3: E - V + 1 loops": (K33, (1, 4, 0)),
    "octahedron is a sphere": (octahedron(), (1, 0, 1)),
    "two octahedra and a loop": (disjoint(disjoint(octahedron(), octahedron()), cycle(5)), (3, 1, 2)),
    "torus": (shapes.strong_product(cycle(4), cycle(5)), (1, 2, 1)),
    "cylinder": (shapes.strong_product(cycle(5), complete(2)), (1, 1, 0)),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_worked_out_by_hand(name, backend):
    graph, expected = GRAPHS[name]

    assert betti_numbers(graph, ALL) == expected
    assert betti_numbers(graph) == expected[:2]
    assert betti_numbers(graph, (0,)) == expected[:1]


TWO_CIRCLES = np.concatenate([circle(10), circle(10) + np.array([2, 0])])  # they share the point (1, 0)
TWO_CLUSTERS = np.concatenate([circle(6, 0.1), circle(8, 0.1) + np.array([5, 5])])

CLOUDS = {
    "circle, neighbours joined": (circle(12), "absolute:0.6", (1, 1, 0)),
    "circle, nothing joined": (circle(12), "absolute:0.5", (12, 0, 0)),
    "circle, all joined": (circle(12), "absolute:2.1", (1, 0, 0)),
    "circle, 12 of 66 pairs": (circle(12), "quantile:0.18", (1, 1, 0)),
    "circle, opposite points alone apart: a sphere of dimension 5": (circle(12), "absolute:1.99", (1, 0, 0)),
    "hexagon, opposite points alone apart: an octahedron": (circle(6), "absolute:1.8", (1, 0, 1)),
    "figure eight": (TWO_CIRCLES, "absolute:0.65", (1, 2, 0)),
    "two clusters": (TWO_CLUSTERS, "absolute:0.3", (2, 0, 0)),
    "two clusters seen as two points": (TWO_CLUSTERS, "relative:0.1", (2, 0, 0)),
    "two loops far apart": (TWO_CLUSTERS, "absolute:0.11", (2, 2, 0)),
    "torus": (shapes.flat_torus(8), "absolute:1.1", (1, 2, 1)),
    "icosahedron": (shapes.icosahedron(), "absolute:2.1", (1, 0, 1)),
    "sphere": (shapes.fibonacci_sphere(80), "absolute:0.7", (1, 0, 1)),
    "identical samples": (np.ones((7, 3)), "absolute:1e-6", (1, 0, 0)),
}


@pytest.mark.parametrize("name", CLOUDS)
def test_clouds_worked_out_by_hand(name, backend):
    points, scale, expected = CLOUDS[name]

    assert betti_at(points, scale) == expected


def test_dimensions_come_back_in_the_order_asked_for():
    graph = disjoint(octahedron(), cycle(4))

    assert betti_numbers(graph, (2, 0)) == (1, 2)
    assert betti_numbers(graph, (1, 1)) == (1, 1)


@pytest.mark.parametrize("dimensions", [(), (3,), (0, -1), (1, 5)])
def test_other_dimensions_are_refused(dimensions):
    with pytest.raises(TopologyError, match="dimensions") as caught:
        betti_numbers(cycle(4), dimensions)
    assert "0, 1 and 2" in caught.value.hint


# --- independent oracles and laws ---


@few()
@given(graphs())
def test_gudhi_counts_the_same_on_graphs(graph):
    assert betti_numbers(graph, ALL) == gudhi_betti(graph)


@few(25)
@given(clouds(), st.floats(0.05, 0.9))
def test_gudhi_counts_the_same_on_clouds(points, share):
    spread = np.linalg.norm(points[:, None] - points[None], axis=2)
    epsilon = share * spread.max()
    tree = gudhi.RipsComplex(points=points, max_edge_length=epsilon).create_simplex_tree(max_dimension=3)
    graph = neighbourhood_graph(distances_of(points), Scale("absolute", (epsilon,)))

    assert betti_numbers(graph, ALL) == gudhi_count(tree)


@few()
@given(graphs(20))
def test_betti_0_counts_components(graph):
    assert betti_numbers(graph, (0,))[0] == betti_numbers(graph, ALL)[0] == components(graph)


@few()
@given(graphs(7))
def test_euler_characteristic(graph):
    # A hole of dimension 3 needs 8 vertices, so here the three numbers are all there are.
    by_cliques = sum((-1) ** (size - 1) * count_cliques(graph, size) for size in range(1, len(graph) + 1))

    betti = betti_numbers(graph, ALL)

    assert betti[0] - betti[1] + betti[2] == by_cliques


@few()
@given(graphs(8), graphs(8))
def test_disjoint_union_adds(one, other):
    expected = np.add(betti_numbers(one, ALL), betti_numbers(other, ALL))

    assert betti_numbers(disjoint(one, other), ALL) == tuple(expected)


@few(20)
@given(graphs(5), graphs(5))
def test_products_follow_kuenneth(one, other):
    expected = np.convolve(betti_numbers(one, ALL), betti_numbers(other, ALL))[:3]

    assert betti_numbers(shapes.strong_product(one, other), ALL) == tuple(expected)


@few()
@given(graphs(9))
def test_a_cone_has_no_holes(graph):
    cone = disjoint(graph, graph_of(1, []))
    cone[-1, :-1] = cone[:-1, -1] = True

    assert betti_numbers(cone, ALL) == (1, 0, 0)


@few()
@given(graphs(), st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_matter(graph, shuffler):
    order = list(range(len(graph)))
    shuffler.shuffle(order)

    assert betti_numbers(graph[np.ix_(order, order)], ALL) == betti_numbers(graph, ALL)


@few(25)
@given(clouds(), st.sampled_from(["quantile:0.23", "relative:0.61", "knn:1,2"]), st.floats(0.01, 100))
def test_isometry_and_scaling_change_nothing(points, scale, factor):
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((points.shape[1],) * 2))
    moved = factor * (points @ turn + 3.0)

    assert betti_at(moved, scale) == betti_at(points, scale)


# --- persistence ---


def test_diagrams_of_a_square():
    zeroth, first = persistence_diagrams(distances_of(circle(4)))

    side, diagonal = 2**0.5, 2.0
    np.testing.assert_allclose(zeroth, [[0, side]] * 3 + [[0, np.inf]], rtol=1e-6)
    np.testing.assert_allclose(first, [[side, diagonal]], rtol=1e-6)


def test_a_bar_alive_at_the_threshold_is_infinite():
    _, first = persistence_diagrams(distances_of(circle(4)), threshold=1.5)

    np.testing.assert_allclose(first, [[2**0.5, np.inf]], rtol=1e-6)


@pytest.mark.parametrize("threshold", [np.inf, 1.3])
def test_both_backends_give_the_same_rows(threshold, monkeypatch):
    pytest.importorskip("gph")
    points = np.random.default_rng(5).standard_normal((40, 3))
    found = {}
    for name in BACKENDS:
        use_only(monkeypatch, name)
        found[name] = persistence_diagrams(distances_of(points), 2, threshold=threshold)

    assert [len(diagram) for diagram in found["gph"]] == [len(diagram) for diagram in found["ripser"]]
    assert sum(map(len, found["gph"])) > 45  # holes as well as components
    for one, other in zip(found["gph"], found["ripser"], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
        assert all(tuple(row) <= tuple(following) for row, following in itertools.pairwise(one))


def test_without_a_backend_components_are_still_counted_and_holes_are_refused(monkeypatch):
    use_only(monkeypatch)

    assert betti_numbers(cycle(5), (0,)) == (1,)
    with pytest.raises(TopologyError, match="no persistent-homology backend") as caught:
        betti_numbers(cycle(5))
    assert caught.value.hint == "pip install ripser"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_distances_that_are_no_numbers_are_refused(bad):
    distances = distances_of(circle(5))
    distances[1, 2] = distances[2, 1] = bad

    with pytest.raises(TopologyError, match="finite"):
        persistence_diagrams(distances)
