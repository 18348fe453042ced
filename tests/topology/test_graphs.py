"""ε-graphs: the very graph that double precision gives, for every scale, size and kind of cloud."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.clouds import edges, joined, normal
from tests.helpers.oracles import exact_squares, few, smallest_with_share, within
from tests.helpers.shapes import circle
from topocompress.errors import TopologyError
from topocompress.topology import Scale, graphs, neighbourhood_graph, unpack
from topocompress.topology.distances import Squares

SIZES = (2, 3, 24, 63, 64, 65, 129, 181, 182, 260)  # up to 181 samples every pair is looked at, beyond that some first
QUANTILES = (0.001, 0.05, 0.2, 0.5, 0.8, 0.999)


def copies(samples: int) -> np.ndarray:
    return normal(max(2, samples // 9), 5)[np.random.default_rng(1).integers(0, max(2, samples // 9), samples)]


def lattice(samples: int) -> np.ndarray:
    return np.random.default_rng(2).integers(-2, 3, (samples, 3)).astype(np.float32)


def sparse(samples: int) -> np.ndarray:
    points = np.maximum(normal(samples, 4) - 1, 0)
    points[:: max(2, samples // 5)] += 1
    return points


def one_far(samples: int) -> np.ndarray:
    points = normal(samples, 1) * np.float32(2.0**-69)
    points[0] = 2.0**-39
    return points


CLOUDS = {
    "normal": normal,
    "long": lambda samples: normal(samples, 1500),
    "copies": copies,
    "lattice": lattice,
    "mostly zeros": sparse,
    "zeros": lambda samples: np.zeros((samples, 4), dtype=np.float32),
    "constant": lambda samples: np.full((samples, 4), 0.1, dtype=np.float32),
    "offset": lambda samples: normal(samples, 8) + np.float32(1e4),
    "copies with an offset": lambda samples: copies(samples) + np.float32(1e4),
    "huge": lambda samples: normal(samples) * np.float32(1e30),
    "tiny": lambda samples: normal(samples) * np.float32(1e-30),
    "one sample far from the rest": one_far,
    "two clusters": lambda samples: normal(samples, 2) + np.float32(1e4) * (np.arange(samples) % 2 > 0)[:, None],
}


# --- exactly the graph of double precision ---


@pytest.mark.parametrize("samples", SIZES)
@pytest.mark.parametrize("kind", CLOUDS)
def test_quantile_graphs_are_exact(kind, samples):
    points = CLOUDS[kind](samples)
    squares = exact_squares(points)

    for share in QUANTILES:
        graph = neighbourhood_graph(points, Scale("quantile", (share,)))
        square = smallest_with_share(squares, share)
        # The sums of squares run in another order here.
        assert graph.epsilon == pytest.approx(square**0.5, rel=1e-12)
        sure = np.abs(squares - square) > 1e-12 * square
        assert np.array_equal(unpack(graph.rows)[sure], within(squares, square)[sure])
        assert np.triu(unpack(graph.rows)).sum() >= round(share * samples * (samples - 1) / 2, 6)


@pytest.mark.parametrize("samples", [2, 24, 65, 260])
@pytest.mark.parametrize("kind", CLOUDS)
def test_absolute_graphs_are_exact_between_and_next_to_distances(kind, samples):
    points = CLOUDS[kind](samples)
    squares = exact_squares(points)
    pairs = np.sqrt(np.sort(squares[np.triu_indices(samples, 1)]))

    for place in (0, len(pairs) // 3, len(pairs) - 1):
        for epsilon in (pairs[place] * (1 - 1e-9), pairs[place] * (1 + 1e-9)):
            if epsilon:
                graph = neighbourhood_graph(points, Scale("absolute", (epsilon,)))
                assert graph.epsilon == epsilon
                assert np.array_equal(unpack(graph.rows), within(squares, epsilon**2))


@pytest.mark.parametrize("samples", [5, 64, 200])
@pytest.mark.parametrize("kind", [kind for kind in CLOUDS if kind not in ("zeros", "constant")])
def test_relative_and_layer_graphs_take_the_mean_distance(kind, samples):
    points = CLOUDS[kind](samples)
    squares = exact_squares(points)
    mean = np.sqrt(squares[np.triu_indices(samples, 1)]).mean()

    own = neighbourhood_graph(points, Scale("relative", (0.7,)))
    layer = neighbourhood_graph(points, Scale("layer", (0.7,)), layer=3 * mean)

    assert own.epsilon == pytest.approx(0.7 * mean, rel=1e-4)
    assert layer.epsilon == pytest.approx(2.1 * mean, rel=1e-12)
    for graph in (own, layer):
        assert np.array_equal(unpack(graph.rows), within(squares, graph.epsilon**2))


@few(60)
@given(
    st.integers(2, 40),
    st.integers(1, 3),
    st.integers(0, 3),
    st.sampled_from([0.0, 7.0, 4096.0]),
    st.integers(1, 63),
    st.integers(0, 2**32 - 1),
)
def test_quantiles_of_ties_are_exact(samples, features, reach, offset, parts, seed):
    # Whole numbers: every squared distance is exact in any order, and many are equal.
    points = np.random.default_rng(seed).integers(-reach, reach + 1, (samples, features)) + np.float32(offset)
    squares, share = exact_squares(points), parts / 64

    graph = neighbourhood_graph(points, Scale("quantile", (share,)))

    square = smallest_with_share(squares, share)
    assert graph.epsilon == np.sqrt(square)
    assert np.array_equal(unpack(graph.rows), within(squares, square))
    pairs = squares[np.triu_indices(samples, 1)]
    assert (pairs <= square).mean() >= share
    assert (pairs < square).mean() < share


@pytest.mark.parametrize("reach", [1, 30])
@pytest.mark.parametrize("share", [0.0001, 0.1, 0.25, 0.5, 0.9, 0.9999])
def test_quantiles_of_ties_are_exact_in_clouds_that_are_sampled_first(reach, share):
    points = np.random.default_rng(5).integers(-reach, reach + 1, (300, 4)).astype(np.float32)
    squares = exact_squares(points)

    graph = neighbourhood_graph(points, Scale("quantile", (share,)))

    square = smallest_with_share(squares, share)
    assert graph.epsilon == np.sqrt(square)
    assert np.array_equal(unpack(graph.rows), within(squares, square))


def test_an_unlucky_draw_changes_nothing(monkeypatch):
    points = normal(250)
    expected = neighbourhood_graph(points, Scale.parse("quantile:0.3"))
    drawn = []

    def unlucky(values, share):
        drawn.append(share)
        return 1e-9, 2e-9

    monkeypatch.setattr(graphs, "_bracket", unlucky)
    found = neighbourhood_graph(points, Scale.parse("quantile:0.3"))

    assert drawn
    assert found.epsilon == expected.epsilon
    assert np.array_equal(found.rows, expected.rows)


@pytest.mark.parametrize("kind", CLOUDS)
@pytest.mark.parametrize("scale", ["quantile:0.3", "relative:0.6", "knn:3,2"])
def test_products_in_double_precision_give_the_same_graph(kind, scale, monkeypatch):
    points = CLOUDS[kind](70)
    expected = neighbourhood_graph(points, Scale.parse(scale))
    single = Squares.of

    monkeypatch.setattr(Squares, "of", lambda cloud, *, device="cpu", double=False: single(cloud, double=True))
    found = neighbourhood_graph(points, Scale.parse(scale))

    assert found.epsilon == pytest.approx(expected.epsilon, rel=1e-4)
    assert np.array_equal(found.rows, expected.rows)


def test_the_order_of_features_and_samples_does_not_matter():
    points, order = normal(90, 200) + np.float32(50), np.random.default_rng(3)
    samples, features = order.permutation(90), order.permutation(200)

    plain = joined(points, "quantile:0.2")
    moved = joined(points[np.ix_(samples, features)], "quantile:0.2")

    assert np.array_equal(moved, plain[np.ix_(samples, samples)])


@pytest.mark.parametrize("factor", [1e20, 1e-25, 2.0**-100, 3.0])
def test_amplitude_changes_nothing_but_epsilon(factor):
    points = circle(12).astype(np.float32)
    plain = neighbourhood_graph(points, Scale.parse("quantile:0.18"))

    scaled = neighbourhood_graph((points * factor).astype(np.float32), Scale.parse("quantile:0.18"))

    assert np.array_equal(unpack(scaled.rows), unpack(plain.rows))
    assert scaled.epsilon == pytest.approx(plain.epsilon * factor, rel=1e-5)


@few()
@given(st.integers(2, 12), st.lists(st.integers(1, 63), min_size=2, max_size=2), st.integers(0, 99))
def test_the_graph_grows_with_the_scale(samples, parts, seed):
    points = np.random.default_rng(seed).integers(-2, 3, (samples, 2)).astype(np.float32)
    small, large = sorted(parts)
    for kind in ("quantile", "relative", "absolute", "layer"):
        inner, outer = (joined(points, f"{kind}:{part / 64}", layer=1.7) for part in (small, large))
        assert not (inner & ~outer).any()
        assert (inner == inner.T).all()
        assert not inner.diagonal().any()


# --- by hand ---

LINE = np.array([[0.0], [1.0], [3.0]])  # distances 1, 2, 3; mean 2


@pytest.mark.parametrize(
    ("scale", "epsilon", "expected"),
    [
        ("quantile:0.01", 1, [(0, 1)]),
        ("quantile:0.33", 1, [(0, 1)]),
        ("quantile:0.34", 2, [(0, 1), (1, 2)]),
        ("quantile:0.99", 3, [(0, 1), (0, 2), (1, 2)]),
        ("relative:0.5", 1, [(0, 1)]),
        ("layer:0.2", 2, [(0, 1), (1, 2)]),
        ("absolute:2", 2, [(0, 1), (1, 2)]),  # a pair at exactly ε is joined
        ("absolute:0.25", 0.25, []),
        ("absolute:1e200", 1e200, [(0, 1), (0, 2), (1, 2)]),
        ("absolute:1e-200", 1e-200, []),
    ],
)
def test_scales_on_a_line(scale, epsilon, expected):
    graph = neighbourhood_graph(LINE, Scale.parse(scale), layer=10)

    assert graph.epsilon == pytest.approx(epsilon, rel=1e-6)
    assert edges(unpack(graph.rows)) == expected


@pytest.mark.parametrize("pairs", [45, 190, 1225])
def test_a_share_of_pairs_that_is_whole_counts_them_exactly(pairs):
    samples = int((2 * pairs) ** 0.5) + 1
    for tenths in range(1, 10):
        graph = joined(normal(samples, seed=4), f"quantile:{tenths / 10}")
        assert np.triu(graph).sum() == -(-tenths * pairs // 10)


def test_identical_samples_are_joined_at_any_scale():
    points = np.ones((70, 3)) * 0.1

    assert joined(points, "absolute:1e-9").sum() == 70 * 69
    assert neighbourhood_graph(points, Scale.parse("quantile:0.1")).epsilon == 0
    assert joined(points, "quantile:0.1").sum() == joined(points, "relative:0.5").sum() == 70 * 69
    assert joined(points, "layer:0.5", layer=0.0).sum() == 70 * 69


def test_the_layer_scale_needs_the_layer():
    with pytest.raises(TopologyError, match="follows from all clouds of a layer"):
        neighbourhood_graph(circle(4), Scale.parse("layer:0.5"))


@pytest.mark.parametrize("scale", ["quantile:0.5", "relative:0.5"])
def test_one_sample_has_no_scale_of_its_own(scale):
    with pytest.raises(TopologyError, match="two samples"):
        neighbourhood_graph(np.zeros((1, 1)), Scale.parse(scale))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("scale", ["quantile:0.5", "absolute:1", "knn:1,1"])
def test_clouds_that_are_no_numbers_are_refused(scale, bad):
    points = normal(5)
    points[3, 2] = bad

    with pytest.raises(TopologyError, match="NaN or infinity"):
        neighbourhood_graph(points, Scale.parse(scale))
