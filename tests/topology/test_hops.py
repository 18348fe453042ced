"""The graph of hops between nearest neighbours."""

import numpy as np
import pytest

from tests.helpers.clouds import edges, joined, normal
from tests.helpers.oracles import exact_squares
from topocompress.errors import TopologyError
from topocompress.topology import Scale, neighbourhood_graph, unpack

PATH = np.array([[0.0], [1.0], [2.1], [3.3], [4.6]])  # the nearest neighbour of each but the first is to its left


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ("knn:1,1", [(0, 1), (1, 2), (2, 3), (3, 4)]),
        ("knn:1,2", [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (2, 4), (3, 4)]),
        # Two neighbours: the ends reach two steps inward, the others one step to each side.
        ("knn:2,1", [(0, 1), (0, 2), (1, 2), (2, 3), (2, 4), (3, 4)]),
    ],
)
def test_hops_on_a_path(scale, expected):
    graph = neighbourhood_graph(PATH, Scale.parse(scale))

    assert edges(unpack(graph.rows)) == expected
    assert graph.epsilon == Scale.parse(scale).values[1]


def test_enough_hops_reach_all():
    assert joined(PATH, "knn:1,4").sum() == 5 * 4


def test_neighbours_count_in_either_direction():
    # The nearest neighbour of 10 is 1, which is nearer to 0: the link holds all the same.
    graph = joined(np.array([[0.0], [1.0], [10.0]]), "knn:1,1")

    assert edges(graph) == [(0, 1), (1, 2)]
    assert (graph == graph.T).all()


def test_exact_duplicates_are_neighbours_of_each_other_and_not_of_themselves():
    assert edges(joined(np.array([[0.0], [0.0], [5.0], [5.0]]), "knn:1,1")) == [(0, 1), (2, 3)]


def test_knn_needs_more_samples_than_neighbours():
    with pytest.raises(TopologyError, match="more than 5 samples, got 5"):
        neighbourhood_graph(PATH, Scale.parse("knn:5,1"))
    assert joined(PATH, "knn:4,1").sum() == 5 * 4


@pytest.mark.parametrize("samples", [30, 70])
def test_nearest_neighbours_are_those_of_double_precision(samples):
    points = normal(samples, 5, seed=8) + np.float32(100)
    nearest = np.argsort(exact_squares(points), axis=1)[:, 1:4]
    expected = np.zeros((samples, samples), dtype=bool)
    expected[np.arange(samples)[:, None], nearest] = True

    assert np.array_equal(joined(points, "knn:3,1"), expected | expected.T)
