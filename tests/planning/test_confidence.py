"""How much may really be lost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topocompress.planning.confidence import drawn_enough, least_samples, paired_error, upper_loss


def test_where_none_is_gained_it_is_wilsons_interval_of_a_single_share():
    n, z = 200, 1.6448536269514722
    for lost in (0, 1, 20):
        share = lost / n
        spread = z * (share * (1 - share) / n + (z / (2 * n)) ** 2) ** 0.5
        assert upper_loss(lost, 0, n) == pytest.approx((share + z * z / (2 * n) + spread) / (1 + z * z / n), abs=1e-9)


def test_at_the_bound_the_score_is_the_quantile():
    # n = 100, b = 12, c = 4, solved by brute force over the restricted likelihood
    lost, gained, n = 12, 4, 100
    bound = upper_loss(lost, gained, n)
    better = np.linspace(1e-6, 0.3, 300_001)
    chances = (
        lost * np.log(better + bound) + gained * np.log(better) + (n - lost - gained) * np.log1p(-2 * better - bound)
    )
    likeliest = better[np.argmax(chances)]
    variance = n * (2 * likeliest + bound * (1 - bound))
    assert (n * bound - lost + gained) / variance**0.5 == pytest.approx(1.644854, abs=1e-3)


@given(lost=st.integers(0, 50), gained=st.integers(0, 50), more=st.integers(1, 500))
def test_it_lies_above_what_was_measured_grows_with_losses_and_shrinks_with_samples(lost, gained, more):
    samples = lost + gained + more
    bound = upper_loss(lost, gained, samples)
    assert bound > (lost - gained) / samples
    assert upper_loss(lost + 1, gained, samples) > bound
    assert upper_loss(4 * lost, 4 * gained, 4 * samples) < bound + 1e-12
    assert upper_loss(lost, gained, samples, 0.99) > bound


@pytest.mark.parametrize(("worse", "better"), [(0.03, 0.01), (0.05, 0.05), (0.01, 0.0), (0.01, 0.001), (0.2, 0.15)])
@pytest.mark.parametrize("samples", [300, 2000])
def test_at_most_one_in_twenty_samplings_puts_the_truth_above_it(worse, better, samples):
    random = np.random.default_rng(0)
    drawn = random.multinomial(samples, [worse, better, 1 - worse - better], size=4000)
    missed = np.mean([upper_loss(int(lost), int(gained), samples) < worse - better for lost, gained, _ in drawn])
    assert missed < 0.057  # three standard errors above one in twenty


def test_the_least_number_of_samples_is_where_nothing_lost_can_be_told_from_the_limit():
    for limit in (0.005, 0.01, 0.03):
        count = least_samples(limit)
        assert upper_loss(0, 0, count) <= limit + 1e-12
        assert upper_loss(0, 0, count - 1) > limit
    assert least_samples(0.0) == 1


def test_another_draw_tells_nothing_where_the_difference_is_certain_or_the_samples_too_few():
    # Wilson's interval of one share at z = 3.09: 3,000 of 20,000 lies above 0.142, 2,100 above 0.098
    assert drawn_enough(3000, 0, 20_000)
    assert drawn_enough(0, 3000, 20_000)
    assert not drawn_enough(2100, 0, 20_000)
    # the error of the difference is √(5 + 4) / 201 = 0.0149, and one sample fewer makes it 0.015
    assert not drawn_enough(5, 4, 201)
    assert drawn_enough(5, 4, 199)


def test_the_error_of_a_paired_difference_is_mcnemars():
    # 3 + 13 samples differ of 100: each is +1 or -1 with even odds, so the variance of their sum is 16
    assert paired_error(3, 13, 100) == pytest.approx(0.04)
    assert paired_error(0, 0, 100) == 0
