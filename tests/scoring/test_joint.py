import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topocompress.scoring.joint import Removal, least_joint, worth_alone


def test_filters_that_cancel_go_together():
    """Filter 2 alone changes least; but 0 and 1 together change nothing."""
    effects = np.array([[2.0, -2.0, 1.5]])
    everything = np.ones(3, dtype=bool)

    assert least_joint(effects, everything, np.zeros(1), 1) == [2]
    assert least_joint(effects, everything, np.array([2.0]), 1) == [0]  # it takes back what has drifted
    assert least_joint(effects, np.array([True, True, False]), np.zeros(1), 2) == [0, 1]


def test_what_filters_are_worth_by_themselves_by_hand():
    """Mean squares 5 of the effects and 10 of the norms; what is 0 everywhere says nothing."""
    alone, norms = np.array([1.0, 3.0]), np.array([4.0, 2.0])

    assert worth_alone(alone, norms, 0.5).tolist() == pytest.approx([(0.2 + 1.6) / 2, (1.8 + 0.4) / 2])
    assert worth_alone(alone, norms, 0.8).tolist() == pytest.approx([0.2 * 0.2 + 0.8 * 1.6, 0.2 * 1.8 + 0.8 * 0.4])
    for share in (0.0, 0.8, 1.0):
        assert worth_alone(alone, 0 * norms, share).tolist() == pytest.approx([0.2, 1.8])
        assert worth_alone(0 * alone, norms, share).tolist() == pytest.approx([1.6, 0.4])
        assert worth_alone(0 * alone, 0 * norms, share).tolist() == [0, 0]


@pytest.mark.parametrize(("times", "first"), [(0, 1), (0.5, 1), (0.6, 2), (100, 2)])
def test_a_filter_that_cancels_stays_if_it_is_worth_much_by_itself(times, first):
    """1 takes all back, (2 - 2)² + λ 2.5 · 1.2; 2 does not, (2 - 1)² + λ 2.5 · 0.5: from λ = 4/7 on 2 goes."""
    effects, left = np.array([[2.0, 2.0, 1.0]]), np.array([False, True, True])

    assert least_joint(effects, left, np.array([2.0]), 1, times * np.array([9, 1.2, 0.5])) == [first]


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
@settings(max_examples=30)
def test_every_step_leaves_the_least_change(seed, filters):
    generator = np.random.default_rng(seed)
    effects, drift = generator.standard_normal((5, filters)), generator.standard_normal(5)

    order = least_joint(effects, np.ones(filters, dtype=bool), drift, filters)

    assert sorted(order) == list(range(filters))
    for step, chosen in enumerate(order):
        gone = order[:step]
        change = {
            f: np.square(drift - effects[:, [*gone, f]].sum(axis=1)).sum() for f in range(filters) if f not in gone
        }
        assert change[chosen] == pytest.approx(min(change.values()))


@pytest.mark.parametrize(("filters", "looks"), list(itertools.product((1, 2, 7, 64), (2, 5, 9, 40))))
def test_the_rounds_take_five_eighths_and_the_last_the_rest(filters, looks):
    removal = Removal(alone=np.arange(filters, dtype=float))
    before = []
    for number in range(looks):
        before.append(len(removal.order))
        count = removal.quota(number, looks)
        removal.order += [f for f in range(filters) if removal.on[f]][:count]

    assert before[-1] == int(filters * 0.625)
    assert before == sorted(before)
    assert len(removal.order) == filters


def test_scores_have_the_sizes_of_filters_judged_alone_in_the_order_of_removal():
    removal = Removal(alone=np.array([5.0, 1.0, 3.0]), order=[2, 0, 1])

    assert removal.scores().tolist() == [3, 5, 1]
