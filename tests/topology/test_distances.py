"""Distances: exact where samples coincide, sharp everywhere, with an error bound that holds."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.oracles import exact_squares, few, fractions_of, norm
from tests.helpers.shapes import circle
from topocompress.errors import TopologyError
from topocompress.topology import mean_distance, pairwise_distances
from topocompress.topology.distances import Squares, gram_matrix


def cloud(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def exact_distances(points: np.ndarray) -> np.ndarray:
    return np.sqrt(exact_squares(points))


# --- distances ---


@pytest.mark.parametrize("shape", [(20, 7), (2, 1), (50, 300), (1, 5), (70, 8), (9, 2500)])
def test_distances_agree_with_double_precision(shape):
    points = cloud(*shape)

    found = pairwise_distances(points)

    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact_distances(points), rtol=1e-4, atol=0)
    assert (found == found.T).all()
    assert (np.diagonal(found) == 0).all()


def test_distances_by_hand():
    points = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])

    np.testing.assert_allclose(pairwise_distances(points), [[0, 5, 1], [5, 0, 18**0.5], [1, 18**0.5, 0]], rtol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("features", [1, 65, 1100])
def test_identical_samples_are_at_distance_exactly_0(offset, features):
    points = cloud(12, features) + np.float32(offset)
    points[7] = points[3]
    points[9] = points[3]

    found = pairwise_distances(points)

    assert found[3, 7] == found[3, 9] == found[7, 9] == 0
    assert (found == 0).sum() == 12 + 6


@pytest.mark.parametrize("relative", [1e-6, 1e-4, 1e-2])
def test_near_duplicates_far_from_the_origin_keep_their_digits(relative):
    points = np.float32(1000) * (1 + np.float32(relative) * cloud(15, 30))

    found = pairwise_distances(points)

    np.testing.assert_allclose(found, exact_distances(points), rtol=1e-4, atol=0)
    assert (found > 0).sum() == 15 * 14


def test_many_copies_of_a_few_samples():
    different = cloud(5, 40) + np.float32(1e3)
    points = different[np.random.default_rng(1).integers(0, 5, 90)]

    found = pairwise_distances(points)

    np.testing.assert_allclose(found, exact_distances(points), rtol=1e-4, atol=0)
    assert ((found == 0) == (points[:, None] == points[None]).all(axis=2)).all()


@pytest.mark.parametrize("factor", [1e30, 1e20, 1e-20, 1e-25, 1e-37])
def test_amplitudes_whose_squares_leave_single_precision(factor):
    points = circle(12).astype(np.float32)
    scaled = (points * factor).astype(np.float32)

    np.testing.assert_allclose(pairwise_distances(scaled) / factor, exact_distances(points), rtol=1e-4, atol=1e-6)
    assert mean_distance(scaled) / factor == pytest.approx(mean_distance(points), rel=1e-4)


def test_distances_leave_the_cloud_alone_and_read_other_precisions():
    points = np.random.default_rng(0).standard_normal((8, 3))
    before = points.copy()
    points.flags.writeable = False

    found = pairwise_distances(points)

    assert (points == before).all()
    np.testing.assert_allclose(found, exact_distances(points), rtol=1e-4, atol=0)


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_layout_does_not_matter(order):
    points = cloud(20, 33)

    np.testing.assert_array_equal(
        pairwise_distances(np.asarray(points, order=order)[::2]), pairwise_distances(points[::2].copy())
    )


def test_mean_distance_is_over_pairs_of_different_samples():
    assert mean_distance(np.array([[0.0], [1.0], [3.0]])) == pytest.approx((1 + 3 + 2) / 3, rel=1e-6)
    assert mean_distance(np.full((3, 1), 5.0)) == 0
    assert mean_distance(np.zeros((4, 2))) == 0
    assert mean_distance(np.ones((1, 3))) == 0


@few(30)
@given(st.integers(2, 40), st.integers(1, 30), st.floats(-1e4, 1e4), st.integers(0, 99))
def test_mean_distance_agrees_with_double_precision(samples, features, offset, seed):
    points = cloud(samples, features, seed=seed) + np.float32(offset)
    exact = exact_distances(points)[np.triu_indices(samples, 1)].mean()

    assert mean_distance(points) == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("measure", [pairwise_distances, mean_distance])
def test_samples_that_are_no_numbers_are_refused(measure, bad):
    points = cloud(5, 4)
    points[2, 1] = bad

    with pytest.raises(TopologyError, match="NaN or infinity"):
        measure(points)


@pytest.mark.parametrize("shape", [(5,), (2, 5, 3)])
def test_another_shape_is_refused(shape):
    with pytest.raises(TopologyError, match="shape"):
        pairwise_distances(np.zeros(shape, dtype=np.float32))


# --- the product and its bound ---


def lower(matrix):
    return [matrix[first][second] for first in range(len(matrix)) for second in range(first + 1)]


@few(30)
@given(
    st.integers(2, 8),
    st.sampled_from([1, 2, 7, 40, 1023, 1024, 1025, 2100]),
    st.sampled_from([0.0, 1.0, -300.0]),
    st.sampled_from([np.float32, np.float64]),
)
def test_gamma_bounds_the_error_of_every_product(samples, features, offset, dtype):
    points = (np.random.default_rng(features).standard_normal((samples, features)) + offset).astype(dtype)

    products, gamma = gram_matrix(points)

    assert products.dtype == dtype
    assert 0 < gamma < 1e-3
    norms = [norm(row) * (1 + 1e-12) for row in points]
    bounds = [[gamma * one * other for other in norms] for one in norms]
    errors = [
        abs(Fraction(float(found)) - exact)
        for found, exact in zip(lower(products), lower(fractions_of(points)), strict=True)
    ]
    assert all(error <= bound for error, bound in zip(errors, lower(bounds), strict=True))


def assert_within_slack(squares: Squares, exact: np.ndarray) -> None:
    first, second = np.tril_indices(len(exact), -1)
    slack = squares.slack.astype(np.float64)
    errors = np.abs(squares.values[first, second].astype(np.float64) - exact[first, second])
    assert (errors <= slack[first] + slack[second] + 1e-12 * exact[first, second]).all()


def test_the_bound_grows_with_blocks_and_not_with_features():
    gammas = [gram_matrix(np.ones((2, features), dtype=np.float32))[1] for features in (10, 1024, 10240)]

    assert gammas[0] < gammas[1] < gammas[2] < 1.02 * gammas[1]


@few(30)
@given(
    st.integers(2, 30),
    st.sampled_from([1, 3, 50, 1500]),
    st.sampled_from([0.0, 1.0, 1e4]),
    st.booleans(),
    st.integers(0, 9),
)
def test_slack_bounds_the_error_of_every_squared_distance(samples, features, offset, double, seed):
    points = cloud(samples, features, seed=seed) + np.float32(offset)
    exact = exact_squares(points)

    squares = Squares.of(points, double=double)

    assert squares.is_double == double
    assert_within_slack(squares, exact)
    assert (squares.values[np.tril_indices(samples, -1)] >= 0).all()


@pytest.mark.parametrize("small", [1e-19, 1e-21, 1e-22, 1e-23])
@pytest.mark.parametrize("features", [1, 30])
def test_slack_covers_products_that_vanish(small, features):
    points = cloud(60, features) * np.float32(small)
    points[0] = 1e-11
    points[1] = 0
    exact = exact_squares(points)

    squares = Squares.of(points)

    assert_within_slack(squares, exact)


def test_single_precision_loses_what_the_slack_admits():
    points = cloud(6, 20) * np.float32(1e-3) + np.float32(100)

    squares = Squares.of(points)

    exact = exact_squares(points)[np.tril_indices(6, -1)]
    found = squares.values[np.tril_indices(6, -1)]
    assert np.abs(found - exact).max() > exact.min()  # the digits are gone indeed
    assert squares.slack.min() > exact.max()


@pytest.mark.parametrize("pairs", [3, 1770])  # fewer than samples, and all: one by one, and by groups of copies
def test_exact_squares_of_pairs(pairs):
    points = cloud(7, 19)[np.arange(60) % 7] + np.float32(1e4)
    first, second = (places[:pairs] for places in np.tril_indices(60, -1))

    found = Squares.of(points).exact(first, second)

    np.testing.assert_allclose(found, exact_squares(points)[first, second], rtol=1e-14, atol=0)
    assert ((found == 0) == (first % 7 == second % 7)).all()


# --- on another device ---


@pytest.mark.parametrize("writeable", [True, False])
@pytest.mark.parametrize("features", [5, 1024, 2500])
def test_the_product_of_another_device_obeys_the_same_bound(features, writeable):
    from topocompress.topology.distances import _gram_on

    points = cloud(20, features) + np.float32(3)
    points.flags.writeable = writeable
    here, gamma = gram_matrix(points, device="cpu")

    there = _gram_on(points, "cpu")

    assert there.dtype == here.dtype
    norms = np.linalg.norm(points.astype(np.float64), axis=1)
    exact = points.astype(np.float64) @ points.astype(np.float64).T
    for found in (here, there):
        filled = np.tril(found)  # the rest is whatever the memory held, which no arithmetic may meet
        assert (np.tril(np.abs(filled - exact) - gamma * norms[:, None] * norms[None]) <= 0).all()
