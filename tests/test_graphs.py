import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import circle, distances_of

from topocompress import topology
from topocompress.errors import TopologyError
from topocompress.topology import Scale, choose_epsilon, mean_distances, neighbourhood_graph, pairwise_distances

few = settings(max_examples=50, deadline=None, derandomize=True)


def exact_distances(points: np.ndarray) -> np.ndarray:
    """In double precision, from differences."""
    points = points.astype(np.float64)
    return np.sqrt(((points[:, :, None] - points[:, None]) ** 2).sum(axis=3))


def clouds(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# --- distances ---


@pytest.mark.parametrize("shape", [(3, 20, 7), (1, 2, 1), (2, 50, 300), (4, 1, 5)])
def test_distances_agree_with_double_precision(shape):
    points = clouds(*shape)

    found = pairwise_distances(torch.tensor(points)).numpy()

    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact_distances(points), rtol=2e-5, atol=0)
    assert (found == found.transpose(0, 2, 1)).all()
    assert (np.diagonal(found, axis1=1, axis2=2) == 0).all()


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e4])
def test_identical_samples_are_at_distance_exactly_0(offset):
    points = clouds(2, 12, 65) + np.float32(offset)
    points[:, 7] = points[:, 3]
    points[1, 9] = points[1, 3]

    found = pairwise_distances(torch.tensor(points))

    assert found[0, 3, 7] == found[1, 3, 7] == found[1, 7, 9] == 0
    assert found[0, 3, 9] > 0


@pytest.mark.parametrize("relative", [1e-6, 1e-4, 1e-2])
def test_near_duplicates_far_from_the_origin_keep_their_digits(relative):
    points = np.float32(1000) * (1 + np.float32(relative) * clouds(2, 15, 30))

    found = pairwise_distances(torch.tensor(points)).numpy()

    np.testing.assert_allclose(found, exact_distances(points), rtol=2e-5, atol=0)
    assert (found[0] > 0).sum() == 15 * 14


def test_close_pairs_may_be_computed_in_many_pieces(monkeypatch):
    points = torch.tensor(clouds(2, 15, 30)) + 1000
    whole = pairwise_distances(points)

    monkeypatch.setattr(topology, "_EXACT_ELEMENTS", 64)

    assert torch.equal(pairwise_distances(points), whole)


def test_distances_leave_the_clouds_alone_and_read_other_precisions():
    points = torch.tensor(clouds(2, 8, 3)).double()
    before = points.clone()

    found = pairwise_distances(points)

    assert torch.equal(points, before)
    torch.testing.assert_close(found, torch.cdist(points, points).float(), rtol=1e-5, atol=0)


def test_mean_distance_is_over_pairs_of_different_samples():
    line = torch.tensor([[[0.0], [1.0], [3.0]], [[5.0], [5.0], [5.0]]])

    np.testing.assert_allclose(mean_distances(pairwise_distances(line)), [(1 + 3 + 2) / 3, 0], rtol=1e-6)
    assert mean_distances(torch.zeros(2, 1, 1)).tolist() == [0, 0]


# --- ε ---


@st.composite
def tied_distances(draw) -> np.ndarray:
    samples = draw(st.integers(2, 12))
    pairs = samples * (samples - 1) // 2
    values = draw(st.lists(st.sampled_from([0, 0.5, 1, 1.5, 2, 7]), min_size=pairs, max_size=pairs))
    matrix = np.zeros((samples, samples), dtype=np.float32)
    matrix[np.triu_indices(samples, 1)] = values
    return matrix + matrix.T


@few
@given(tied_distances(), st.integers(1, 255))
def test_quantile_is_the_smallest_distance_with_the_share_of_pairs_within(distances, parts):
    share = parts / 256  # exact in binary, so that share · pairs is too
    pairs = np.sort(distances[np.triu_indices(len(distances), 1)])

    found = choose_epsilon(distances, Scale("quantile", (share,)))

    assert found == pairs[math.ceil(share * len(pairs)) - 1]
    assert (pairs <= found).mean() >= share
    assert (pairs < found).mean() < share


@few
@given(tied_distances(), st.lists(st.sampled_from(range(1, 64)), min_size=2, max_size=2))
def test_the_graph_grows_with_the_scale(distances, parts):
    small, large = sorted(parts)
    for kind in ("quantile", "relative", "absolute", "layer"):
        inner, outer = (
            neighbourhood_graph(distances, Scale(kind, (part / 64,)), layer_mean=1.7) for part in (small, large)
        )
        assert not (inner & ~outer).any()
        assert (inner == inner.T).all()
        assert not inner.diagonal().any()


def test_distance_scales_by_hand():
    line = distances_of(np.array([[0.0], [1.0], [3.0]]))  # distances 1, 2, 3; mean 2

    assert choose_epsilon(line, Scale.parse("quantile:0.33")) == pytest.approx(1)
    assert choose_epsilon(line, Scale.parse("quantile:0.34")) == pytest.approx(2)
    assert choose_epsilon(line, Scale.parse("quantile:0.99")) == pytest.approx(3)
    assert choose_epsilon(line, Scale.parse("relative:0.5")) == pytest.approx(1)
    assert choose_epsilon(line, Scale.parse("layer:0.5"), layer_mean=10) == 5
    assert choose_epsilon(line, Scale.parse("absolute:0.25")) == 0.25


def test_a_pair_at_exactly_epsilon_is_joined():
    line = distances_of(np.array([[0.0], [1.0], [3.0]]))

    graph = neighbourhood_graph(line, Scale.parse("absolute:2"))

    assert graph.tolist() == [[False, True, False], [True, False, True], [False, True, False]]


def test_the_layer_scale_needs_the_layer():
    with pytest.raises(TopologyError, match="layer_mean"):
        neighbourhood_graph(distances_of(circle(4)), Scale.parse("layer:0.5"))


@pytest.mark.parametrize("scale", ["quantile:0.5", "relative:0.5"])
def test_one_sample_has_no_scale_of_its_own(scale):
    with pytest.raises(TopologyError, match="two samples"):
        neighbourhood_graph(np.zeros((1, 1), dtype=np.float32), Scale.parse(scale))


# --- hops in the k-nearest-neighbour graph ---

PATH = np.array([[0.0], [1.0], [2.1], [3.3], [4.6]])  # the nearest neighbour of each but the first is to its left


def edges(graph: np.ndarray) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in zip(*np.nonzero(np.triu(graph)), strict=True)]


def test_hops_on_a_path():
    distances = distances_of(PATH)

    assert edges(neighbourhood_graph(distances, Scale.parse("knn:1,1"))) == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert edges(neighbourhood_graph(distances, Scale.parse("knn:1,2"))) == [
        (0, 1),
        (0, 2),
        (1, 2),
        (1, 3),
        (2, 3),
        (2, 4),
        (3, 4),
    ]
    assert neighbourhood_graph(distances, Scale.parse("knn:1,4")).sum() == 5 * 4
    # Two neighbours: the ends reach two steps inward, the others one step to each side.
    assert edges(neighbourhood_graph(distances, Scale.parse("knn:2,1"))) == [
        (0, 1),
        (0, 2),
        (1, 2),
        (2, 3),
        (2, 4),
        (3, 4),
    ]


def test_neighbours_count_in_either_direction():
    # The nearest neighbour of 10 is 1, which is nearer to 0: the link holds all the same.
    graph = neighbourhood_graph(distances_of(np.array([[0.0], [1.0], [10.0]])), Scale.parse("knn:1,1"))

    assert edges(graph) == [(0, 1), (1, 2)]
    assert (graph == graph.T).all()


def test_exact_duplicates_are_neighbours_of_each_other_and_not_of_themselves():
    points = np.array([[0.0], [0.0], [5.0], [5.0]])

    assert edges(neighbourhood_graph(distances_of(points), Scale.parse("knn:1,1"))) == [(0, 1), (2, 3)]


def test_knn_needs_more_samples_than_neighbours():
    with pytest.raises(TopologyError, match="more than 5 samples, got 5"):
        neighbourhood_graph(distances_of(PATH), Scale.parse("knn:5,1"))
    assert neighbourhood_graph(distances_of(PATH), Scale.parse("knn:4,1")).sum() == 5 * 4


# --- reading and writing scales ---

GOOD = {
    "quantile:0.2": Scale("quantile", (0.2,)),
    "relative:0.5": Scale("relative", (0.5,)),
    "layer:1.25": Scale("layer", (1.25,)),
    "absolute:1e-05": Scale("absolute", (1e-5,)),
    "knn:14,2": Scale("knn", (14.0, 2.0)),
}


@pytest.mark.parametrize("text", GOOD)
def test_scales_are_read_and_written(text):
    assert Scale.parse(text) == GOOD[text]
    assert str(GOOD[text]) == text
    assert Scale.parse(str(Scale.parse(text))) == GOOD[text]


@pytest.mark.parametrize(
    "text",
    [
        *("", "quantile", "quantile:", "quantile:x", "quantile:0", "quantile:1", "quantile:-0.1", "quantile:0.1,0.2"),
        *("quantil:0.2", "relative:nan", "relative:inf", "layer:0", "absolute:-1", "knn:14", "knn:14,2,1"),
        *("knn:1.5,2", "knn:0,1", "knn:3,0", "0.2", ":0.2", "absolute:1;2"),
    ],
)
def test_other_texts_are_refused_with_what_to_write(text):
    with pytest.raises(TopologyError, match="scale") as caught:
        Scale.parse(text)
    assert "quantile:0.2" in caught.value.hint


@pytest.mark.parametrize("factor", [1e20, 1e-25])
def test_amplitudes_whose_squares_leave_float32_change_nothing(factor):
    points = torch.tensor(circle(12), dtype=torch.float32)[None]
    plain = pairwise_distances(points)[0].numpy()
    scaled = pairwise_distances(points * factor)[0].numpy()
    np.testing.assert_allclose(scaled / factor, plain, rtol=1e-4, atol=1e-6)
    scale = Scale.parse("quantile:0.18")
    np.testing.assert_array_equal(neighbourhood_graph(scaled, scale), neighbourhood_graph(plain, scale))
