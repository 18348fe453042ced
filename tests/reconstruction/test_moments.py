"""Least squares from second moments."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from topocompress.reconstruction.moments import Moments, Rows, _lowest, fit


def moments(x, y):
    return filled(Moments(x.shape[1], x.shape[2], y.shape[2], x.device), x, y)


def as_rows(x, y):
    return filled(Rows(), x, y)


def filled(found, x, y):
    for part in (slice(0, 7), slice(7, None)):
        found.add(x[part], y[part])
    return found


def assert_same(one, other):
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def problem(seed=0, *, rows=60, groups=2, features=4, outputs=3, noise=0.0):
    """Rows, targets, and (groups, features + 1, outputs) weights that give them but for noise."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, groups, features, generator=random) * 2 + 1
    true = torch.randn(groups, features + 1, outputs, generator=random)
    y = torch.einsum("ngd,gdo->ngo", x, true[:, :-1]) + true[:, -1]
    return x, y + noise * torch.randn(y.shape, generator=random), true.double()


def test_the_error_is_the_mean_square_of_what_is_left():
    x, y, _ = problem(noise=0.5)
    weights = torch.randn(2, 5, 3, dtype=torch.float64)
    left = y.double() - torch.einsum("ngd,gdo->ngo", x.double(), weights[:, :-1]) - weights[:, -1]
    expected = float(left.square().mean(dim=0).sum())
    assert moments(x, y).error(weights) == pytest.approx(expected, rel=1e-5)
    assert as_rows(x, y).error(weights) == pytest.approx(expected, rel=1e-5)


def test_moments_add_up():
    x, y, _ = problem()
    both, weights = moments(x[:20], y[:20]), torch.randn(2, 5, 3, dtype=torch.float64)
    both.absorb(moments(x[20:], y[20:]))
    whole = moments(x, y)
    assert both.error(weights) == pytest.approx(whole.error(weights), rel=1e-5)
    assert both.variance() == pytest.approx(whole.variance(), rel=1e-5)
    assert_same(*(each.system(weights, offset=True).at(0.1) for each in (both, whole)))


@pytest.mark.parametrize("lowest", range(5))
@pytest.mark.parametrize("start", range(5))
def test_the_lowest_of_what_falls_and_then_rises_is_found_from_anywhere(lowest, start):
    assert _lowest(lambda number: abs(number - lowest), 5, start) == lowest


def test_without_noise_the_true_weights_are_found():
    x, y, true = problem()
    old = torch.zeros_like(true)
    found = fit(moments(x[:48], y[:48]), moments(x[48:], y[48:]), old, offset=True)
    assert found.after < 1e-4 < found.before
    torch.testing.assert_close(moments(x, y).system(old, offset=True).at(1e-9), true, rtol=1e-3, atol=1e-3)


def test_as_many_unknowns_as_an_oracle_solves():
    x, y, true = problem(noise=1.0)
    found = moments(x, y).system(true, offset=True).at(1e-9)
    for group in range(2):
        ones = torch.cat([x[:, group], torch.ones(60, 1)], dim=1).double()
        expected = torch.linalg.lstsq(ones, y[:, group].double()).solution
        torch.testing.assert_close(found[group], expected, rtol=1e-3, atol=1e-3)


def test_a_strong_hand_keeps_the_old_weights():
    x, y, _ = problem()
    old = torch.randn(2, 5, 3, dtype=torch.float64)
    found = moments(x, y).system(old, offset=True).at(1e9)
    torch.testing.assert_close(found[:, :-1], old[:, :-1], rtol=1e-4, atol=1e-4)


def test_an_offset_that_may_not_change_does_not():
    x, y, _ = problem()
    old = torch.zeros(2, 5, 3, dtype=torch.float64)
    found = moments(x, y).system(old, offset=False).at(1e-9)
    assert torch.equal(found[:, -1], old[:, -1])
    expected = torch.linalg.lstsq(x[:, 0].double(), y[:, 0].double()).solution
    torch.testing.assert_close(found[0, :-1], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("offset", [True, False])
@pytest.mark.parametrize("ridge", [1e-3, 1.0])
@pytest.mark.parametrize("rows", [3, 60])
def test_rows_and_moments_have_the_same_solution_and_variance(rows, ridge, offset):
    x, y, true = problem(rows=rows, noise=1.0)
    found = [evidence(x, y).system(true, offset=offset).at(ridge) for evidence in (moments, as_rows)]
    torch.testing.assert_close(*found, rtol=2e-3, atol=2e-3)
    assert moments(x, y).variance() == pytest.approx(as_rows(x, y).variance(), rel=1e-3)


@given(
    st.integers(0, 10_000),
    st.sampled_from([2, 5, 30, 90]),
    st.sampled_from([0.0, 0.3, 5.0]),
    st.sampled_from([moments, as_rows]),
)
@settings(max_examples=40)
def test_new_weights_are_never_worse_on_rows_held_out(seed, rows, noise, evidence):
    x, y, true = problem(seed, rows=rows + 10, noise=noise)
    old = true + 0.1 * torch.randn(true.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = fit(evidence(x[:rows], y[:rows]), evidence(x[rows:], y[rows:]), old, offset=True)
    assert found.after <= found.before
    assert (found.ridge is None) == torch.equal(found.weights, old)


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows_change_nothing_or_little(rows):
    x, y, true = problem(rows=10)
    found = fit(moments(x[:rows], y[:rows]), moments(x[rows:], y[rows:]), true, offset=True)
    assert found.weights.isfinite().all()
    assert found.after <= found.before
