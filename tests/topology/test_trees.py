import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import cdist

from topocompress.topology.trees import spanning_tree


def test_points_on_a_line_are_joined_in_turn():
    points = np.array([[0.0], [10.0], [1.0], [3.0]])

    assert {tuple(sorted(edge)) for edge in spanning_tree(points).tolist()} == {(0, 2), (2, 3), (1, 3)}


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_points_have_no_edge(count):
    assert spanning_tree(np.zeros((count, 2))).shape == (0, 2)


def test_equal_points_are_joined_too():
    edges = spanning_tree(np.zeros((4, 3)))

    assert sorted(edges[:, 1]) == [1, 2, 3]


@given(st.integers(2, 40), st.integers(1, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_it_spans_and_is_as_short_as_scipys(count, features, seed):
    points = np.random.default_rng(seed).standard_normal((count, features))
    edges = spanning_tree(points)

    length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1).sum()

    assert length == pytest.approx(minimum_spanning_tree(cdist(points, points)).sum())
    reached = {0}
    for known, new in edges.tolist():  # every edge leads from what is reached to what is not
        assert known in reached
        assert new not in reached
        reached.add(new)
    assert len(reached) == count
