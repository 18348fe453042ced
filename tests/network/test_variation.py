import numpy as np
import pytest
import torch

from topocompress.network.variation import PLACES, error_weights, explained, joined, picked


def values(rows):
    return picked(torch.tensor(rows))


def test_explained_variation_by_hand():
    first = values([[1.0], [3.0], [5.0]])  # squares about the mean: 4 + 0 + 4
    assert explained(first, first) == 1.0
    assert explained(first, values([[1.0], [3.0], [7.0]])) == pytest.approx(1 - 4 / 8)
    assert explained(first, values([[3.0], [3.0], [3.0]])) == pytest.approx(0.0, abs=1e-6)
    assert explained(first, values([[5.0], [3.0], [1.0]])) == pytest.approx(
        8 / 32 - 1
    )  # worse than the mean: 1 / q - 1


def test_a_large_offset_takes_no_credit():
    offset = torch.full((8, 1), 300.0)
    wave = torch.linspace(-1, 1, 8)[:, None]
    assert explained(picked(offset + wave), picked(offset)) == pytest.approx(0.0, abs=1e-3)
    assert explained(picked(offset + wave), picked(offset - wave)) < 0


def test_what_is_small_is_not_drowned_by_what_is_large():
    draw = torch.Generator().manual_seed(0)
    boxes, scores = 100 * torch.randn(50, 4, 9, generator=draw), 0.01 * torch.rand(50, 8, 9, generator=draw)
    right, wrong = (torch.cat([boxes, each], 1) for each in (scores, scores.flip(0)))
    for turned in (False, True):  # whichever of the axes tells them apart
        pair = [each.transpose(1, 2) if turned else each for each in (right, wrong)]
        assert explained(*map(picked, pair)) < 0.4
    assert explained(picked(right), picked(right)) == 1.0


def test_entries_that_never_change_do_not_count_unless_they_are_lost():
    wave = torch.linspace(-1, 1, 8)[:, None]
    still = torch.cat([wave, torch.full((8, 1), 2.0), torch.zeros(8, 1)], 1)
    assert explained(picked(still), picked(still * torch.tensor([0.5, 1.0, 1.0]))) == pytest.approx(0.75)
    assert explained(picked(still), picked(still + torch.tensor([0.0, 1.0, 1.0]))) < 0  # one right, two lost
    assert not picked(still).constant
    assert picked(still[:, 1:]).constant
    assert explained(picked(still[:, 1:]), picked(still[:, 1:])) == 1.0


def test_one_sample_varies_in_nothing():
    one = torch.randn(1, 5, generator=torch.Generator().manual_seed(0))
    assert picked(one).constant
    assert explained(picked(one), picked(one)) == 1.0
    assert explained(picked(one), picked(one + 1)) < 0


def test_large_outputs_are_compared_at_the_same_places_in_every_batch():
    maps = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    whole, parts = picked(maps), joined([picked(part) for part in maps.split(4)])
    assert whole.numbers.shape == (6, PLACES)
    np.testing.assert_array_equal(whole.numbers, parts.numbers)
    np.testing.assert_array_equal(whole.places, parts.places)
    assert explained(whole, parts) == 1.0


def test_complex_numbers_keep_both_parts():
    waves = torch.polar(torch.ones(6, 2), torch.randn(6, 2, generator=torch.Generator().manual_seed(0)))
    assert explained(picked(waves), picked(waves.conj())) < 0.6


def test_weighted_errors_are_shares_of_the_variation():
    draw = torch.Generator().manual_seed(0)
    first = torch.randn(40, 3, 5, generator=draw) * torch.tensor([1.0, 10.0, 1000.0])[:, None] + 50
    other = torch.randn(40, 1, generator=draw)
    weights = error_weights([[first[:16], other[:16]], [first[16:], other[16:]]])
    assert [len(each) for each in weights] == [15, 1]
    at_the_mean = (first - first.mean(0)).flatten(1).square() @ weights[0]
    assert float(at_the_mean.mean()) == pytest.approx(0.5, rel=1e-4)  # of two outputs, nothing of one explained
    assert float(((other - other.mean(0)).square() @ weights[1]).mean()) == pytest.approx(0.5, rel=1e-4)


def test_errors_of_a_constant_weigh_by_its_size():
    (weights,) = error_weights([[torch.full((9, 1), 4.0)]])
    assert float(weights) == pytest.approx(1 / 16)
    (none,) = error_weights([[torch.zeros(9, 1)]])
    assert float(none) == 1.0
