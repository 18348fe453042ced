import numpy as np
import pytest

from topocompress.activation import point_sets
from topocompress.errors import DataError
from topocompress.topology import Scale, betti_numbers, neighbourhood_graph

SETS = [*point_sets.naitzat(), point_sets.annuli(7), point_sets.annuli(7, dimension=3), point_sets.annuli(2)]


@pytest.mark.parametrize("known", SETS, ids=lambda known: known.name)
@pytest.mark.parametrize("label", [0, 1])
def test_our_own_engine_recovers_the_betti_numbers(known, label):
    points, labels = known.cover()
    graph = neighbourhood_graph(points[labels == label], Scale("absolute", (known.epsilon,)))
    assert betti_numbers(graph.rows, range(len(known.betti[label]))) == known.betti[label]


def test_the_numbers_are_those_of_the_paper():
    assert [known.betti for known in point_sets.naitzat()] == [
        ((9, 0), (1, 9)),
        ((9, 9, 0), (9, 9, 0)),
        ((18, 0, 9), (9, 0, 9)),
    ]


@pytest.mark.parametrize("dimension", [2, 3])
def test_seven_by_seven_annuli_have_more_than_150(dimension):
    assert point_sets.annuli(7, dimension=dimension).total_betti == 4 * 49 + 1
    assert point_sets.annuli(3, dimension=dimension).total_betti == 37


@pytest.mark.parametrize("known", SETS, ids=lambda known: known.name)
def test_samples_lie_in_their_class(known):
    points, labels = known.sample(501, seed=3)
    assert points.shape == (501, len(known.corner))
    assert points.dtype == np.float32
    assert np.bincount(labels).tolist() == [251, 250]
    assert np.array_equal(known.place(points.astype(np.float64)), labels)
    assert np.abs(points).max(axis=0) == pytest.approx(known.corner, rel=0.15)
    assert len(np.unique(labels[:40])) == 2  # in random order


def test_samples_follow_their_seed():
    known = point_sets.nine_discs()
    first, again, other = (known.sample(50, seed=seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_place_in_the_plane_is_told_by_hand():
    known = point_sets.nine_discs()
    points = np.array([[0.0, 0.0], [1.2, 1.0], [0.5, 0.5], [0.3, 0.0], [1.9, 1.9]])
    assert known.place(points).tolist() == [0, 0, 1, -1, -1]


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(DataError, match="cannot hold both classes"):
        point_sets.nine_discs().sample(1, seed=0)
    for cells, dimension in ((0, 2), (3, 4)):
        with pytest.raises(DataError, match="annuli:"):
            point_sets.annuli(cells, dimension=dimension)
