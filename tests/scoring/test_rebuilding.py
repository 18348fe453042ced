"""What the channels that stay can say of those that go, against what can be worked out by hand."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from topocompress.scoring.rebuilding import Moments, Unsaid, losses_of, order_of_least


def moments(maps, slope=None):
    """Of (rows, channels) maps, every row a sample with one position."""
    maps = torch.as_tensor(maps, dtype=torch.float64)
    found = Moments.none(maps.shape[1])
    found.add(maps[:, :, None])
    found.slope += 1 if slope is None else torch.as_tensor(slope, dtype=torch.float64)
    return found


def drawn(seed, rows=400, channels=4):
    return torch.randn(rows, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_channel_that_others_add_up_to_goes_first_though_it_is_the_largest():
    maps = drawn(0, rows=4000)
    maps[:, 3] = 5 * (maps[:, 0] + maps[:, 1])

    order = order_of_least([(moments(maps), [[0], [1], [2], [3]])], np.zeros(4))

    assert order[0] != 2  # any of the three others is said by two of them
    left = Unsaid.without(moments(maps), [3])
    np.testing.assert_allclose(left.mixture, [[5, 5, 0]], atol=0.1)


def test_of_two_copies_one_goes_first_and_the_other_is_worth_its_own_then():
    maps = drawn(1, channels=3)
    maps[:, 1] = maps[:, 0]

    order = order_of_least([(moments(maps, [1, 1, 0.5]), [[0], [1], [2]])], np.zeros(3))

    assert order[0] in (0, 1)
    assert order[1:] == [2, 1 - order[0]]  # the copy that is left weighs more than channel 2


def test_channels_without_relations_go_by_their_variance_and_their_weight():
    maps = drawn(2, rows=20_000) * torch.tensor([4.0, 3.0, 2.0, 1.0])

    alone = [[0], [1], [2], [3]]

    assert order_of_least([(moments(maps), alone)], np.zeros(4)) == [3, 2, 1, 0]
    assert order_of_least([(moments(maps, [1, 1, 1, 100]), alone)], np.zeros(4)) == [2, 1, 0, 3]
    assert order_of_least([(moments(maps), alone)], np.array([0.0, 9, 9, 9])) == [0, 3, 2, 1]


def test_units_of_several_channels_and_layers_add_up():
    """Unit 0 is small in the first layer and large in the second; units may differ in size."""
    first, second = drawn(3, rows=5000), drawn(4, rows=5000, channels=2)
    first[:, 0] *= 0.1
    second[:, 0] *= 10
    units = [[0], [1, 2], [3]]

    assert order_of_least([(moments(first), units)], np.zeros(3)) == [0, 2, 1]
    both = [(moments(first), [[0], [1, 2]]), (moments(second), [[0], [1]])]
    assert order_of_least(both, np.zeros(2)) == [1, 0]


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
@settings(max_examples=25)
def test_each_step_takes_what_least_squares_says(seed, channels):
    """The cost of a set is the weighted variance that a regression on the others leaves."""
    generator = torch.Generator().manual_seed(seed % 2**31)
    mixing = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
    maps = drawn(seed % 1000, channels=channels) @ mixing
    slope = torch.rand(channels, generator=generator, dtype=torch.float64) + 0.1
    seen = moments(maps, slope)
    spread = seen.ridged

    def cost(gone):
        kept = [c for c in range(channels) if c not in gone]
        there = spread[kept][:, kept]
        rest = spread[gone][:, gone] - spread[gone][:, kept] @ torch.linalg.solve(there, spread[kept][:, gone])
        return float((rest.diagonal() * slope[gone]).sum())

    order = order_of_least([(seen, [[c] for c in range(channels)])], np.zeros(channels))

    for step, chosen in enumerate(order):
        gone = order[:step]
        costs = {c: cost([*gone, c]) for c in range(channels) if c not in gone}
        assert costs[chosen] == pytest.approx(min(costs.values()), rel=1e-6)


def test_many_units_are_looked_at_a_few_at_a_time_and_the_order_is_the_same(monkeypatch):
    maps = drawn(5, rows=3000, channels=60) @ drawn(6, rows=60, channels=60)
    units = [[c] for c in range(60)]

    few = order_of_least([(moments(maps), units)], np.zeros(60))
    monkeypatch.setattr("topocompress.scoring.rebuilding._LOOKED_AT", 60)

    assert few == order_of_least([(moments(maps), units)], np.zeros(60))


def test_a_channel_that_never_changes_goes_for_nothing():
    maps = drawn(7)
    maps[:, 2] = 3.0

    order = order_of_least([(moments(maps), [[0], [1], [2], [3]])], np.zeros(4))
    left = Unsaid.without(moments(maps), [2])

    assert order[0] == 2
    assert left.offset.tolist() == pytest.approx([3.0], abs=1e-3)


def test_fewer_rows_than_channels_are_not_taken_at_their_word():
    """Five samples can be said by any five channels; a sixth sample would show that it was chance."""
    maps = drawn(8, rows=5, channels=20)
    left = Unsaid.without(moments(maps), [0])

    unsaid = maps[:, 0] - maps[:, 1:] @ left.mixture[0].double()
    assert unsaid.var() > 0.2 * maps[:, 0].var()


def test_the_effect_of_what_is_left_unsaid_by_hand():
    """Channel 1 is said as twice channel 0 and one; one position, gradients 3 and 10."""
    left = Unsaid(
        gone=torch.tensor([1]), kept=torch.tensor([0]), mixture=torch.tensor([[2.0]]), offset=torch.tensor([1.0])
    )
    maps, gradients = torch.tensor([[1.5, 7.0]]), torch.tensor([[3.0, 10.0]])

    effect = left.effect(gradients[:, :, None] @ maps[:, None, :], gradients)

    assert effect.tolist() == pytest.approx([10 * (7 - 2 * 1.5 - 1)])


def test_losses_rise_and_add_up_to_what_is_known():
    found = losses_of([2, 4, 8], [1.0, 3.0, 15.0])

    assert len(found) == 8
    assert all(later > earlier for earlier, later in itertools.pairwise(found))
    assert found.sum() == pytest.approx(15, rel=0.35)
    flat = losses_of([2, 4], [3.0, 2.0])  # a loss that falls is chance
    assert all(later > earlier for earlier, later in itertools.pairwise(flat))
    nothing = losses_of([1, 3], [0.0, 0.0])
    assert (nothing > 0).all()
    assert nothing.max() < 1e-12 * losses_of([1, 3], [1e-18, 2e-18]).min()  # whatever the units of the outputs


def test_a_mean_that_is_much_larger_than_the_spread_does_not_drown_it():
    """In single precision 10,000 plus noise of 1 squared has no digits left for the noise."""
    maps = drawn(9, rows=2000).float()
    near, far = moments(maps), Moments.none(4)
    for part in (maps + 10_000).split(250):
        far.add(part[:, :, None])

    np.testing.assert_allclose(far.ridged, near.ridged, rtol=0.02, atol=2e-3)
    np.testing.assert_allclose(far.mean, near.mean + 10_000, rtol=1e-6)
