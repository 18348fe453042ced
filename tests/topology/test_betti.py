import gudhi
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import shapes
from tests.helpers.oracles import (
    clouds,
    components,
    euler_characteristic,
    few,
    graphs,
    gudhi_betti,
    gudhi_count,
    near_graph,
    random_graph,
)
from tests.helpers.shapes import circle, complete, cycle, disjoint, graph_of, octahedron
from topocompress.errors import TopologyError
from topocompress.topology import Scale, betti_numbers, neighbourhood_graph, pack

ALL = (0, 1, 2)
BACKENDS = ("giotto-ph", "ripser")


@pytest.fixture(params=BACKENDS)
def backend(request) -> str:
    pytest.importorskip({"giotto-ph": "gph", "ripser": "ripser"}[request.param])
    return request.param


def betti_at(points: np.ndarray, scale: str, dimensions=ALL, **options) -> tuple[int, ...]:
    return betti_numbers(neighbourhood_graph(points, Scale.parse(scale)).rows, dimensions, **options)


# --- Betti numbers worked out by hand ---

BOWTIE = graph_of(5, [(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (4, 2)])
FIGURE_EIGHT = graph_of(7, [(0, 1), (1, 2), (2, 3), (3, 0), (3, 4), (4, 5), (5, 6), (6, 3)])
K33 = graph_of(6, [(a, b) for a in (0, 1, 2) for b in (3, 4, 5)])

GRAPHS = {
    "nothing": (graph_of(0, []), (0, 0, 0)),
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
    "torus of several words": (shapes.strong_product(cycle(9), cycle(16)), (1, 2, 1)),
    "torus and 70 points": (disjoint(shapes.strong_product(cycle(4), cycle(4)), graph_of(70, [])), (71, 2, 1)),
    "200-gon": (cycle(200), (1, 1, 0)),
    "300 vertices, all joined": (complete(300), (1, 0, 0)),
    "cylinder": (shapes.strong_product(cycle(5), complete(2)), (1, 1, 0)),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_worked_out_by_hand(name, backend):
    graph, expected = GRAPHS[name]

    assert betti_numbers(graph, ALL, backend=backend) == expected
    assert betti_numbers(graph, backend=backend) == expected[:2]
    assert betti_numbers(graph, (0,), backend=backend) == expected[:1]
    assert betti_numbers(graph, (1,), backend=backend) == expected[1:2]
    assert betti_numbers(graph, (2,), backend=backend) == expected[2:]


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

    assert betti_at(points, scale, backend=backend) == expected


def test_graphs_may_be_given_as_rows_and_stay_as_they_were():
    for graph in (octahedron(), cycle(70), disjoint(octahedron(), cycle(100))):
        rows, before = pack(graph), graph.copy()
        words = rows.copy()

        assert betti_numbers(rows, ALL) == betti_numbers(graph, ALL)
        assert betti_numbers(rows) == betti_numbers(graph)
        assert np.array_equal(rows, words)
        assert np.array_equal(graph, before)


def test_the_diagonal_is_ignored():
    for graph in (octahedron(), cycle(5), graph_of(3, [])):
        assert betti_numbers(graph | np.eye(len(graph), dtype=bool), ALL) == betti_numbers(graph, ALL)


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


@few(120)
@given(st.integers(10, 40), st.floats(0.02, 0.95), st.booleans(), st.integers(0, 2**32 - 1))
def test_gudhi_counts_the_same_on_larger_and_denser_graphs(vertices, share, near, seed):
    graph = (near_graph if near else random_graph)(vertices if share < 0.6 else 14, share, seed)
    expected = gudhi_betti(graph)

    for name in BACKENDS:
        assert betti_numbers(graph, ALL, backend=name) == expected
        assert betti_numbers(graph, (0, 1), backend=name) == expected[:2]
    assert betti_numbers(pack(graph), ALL) == expected


@pytest.mark.parametrize("vertices", [64, 65, 128, 129, 180])
@pytest.mark.parametrize("near", [True, False])
def test_gudhi_counts_the_same_over_several_words(vertices, near):
    for share in (0.01, 0.05, 0.1):
        graph = (near_graph if near else random_graph)(vertices, share, seed=vertices)
        expected = gudhi_betti(graph)

        assert betti_numbers(graph, ALL) == expected
        assert betti_numbers(graph) == expected[:2]


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_dense_graphs_whose_holes_are_known(parts):
    # A join of discrete sets: all its reduced homology sits in dimension parts - 1.
    places = np.arange(parts * 12)
    graph = places[:, None] % parts != places[None] % parts

    holes = [11**parts if parts == dimension + 1 else 0 for dimension in range(3)]
    assert betti_numbers(graph, ALL) == (1, *holes[1:])
    assert betti_numbers(graph) == (1, holes[1])


@few(25)
@given(clouds(), st.floats(0.05, 0.9))
def test_gudhi_counts_the_same_on_clouds(points, share):
    spread = np.linalg.norm(points[:, None] - points[None], axis=2)
    epsilon = share * spread.max()
    tree = gudhi.RipsComplex(points=points, max_edge_length=epsilon).create_simplex_tree(max_dimension=3)
    graph = neighbourhood_graph(points, Scale("absolute", (epsilon,)))

    assert betti_numbers(graph.rows, ALL) == gudhi_count(tree)


@few()
@given(graphs(20))
def test_betti_0_counts_components(graph):
    assert betti_numbers(graph, (0,))[0] == betti_numbers(graph, ALL)[0] == components(graph)


@few()
@given(graphs(7))
def test_euler_characteristic(graph):
    # A hole of dimension 3 needs 8 vertices, so here the three numbers are all there are.
    betti = betti_numbers(graph, ALL)

    assert betti[0] - betti[1] + betti[2] == euler_characteristic(graph)


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
