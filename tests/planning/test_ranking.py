from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.synthetic import chain, layer, nets, scores
from topocompress.errors import PlanError
from topocompress.planning.ranking import rank
from topocompress.planning.rules import Limits
from topocompress.types import ChannelGroup

given_nets = settings(max_examples=60)


def test_high_scores_go_first_where_they_mean_remove():
    ranked = rank(chain(4), scores({"conv": layer([5, 9, 1, 7])}))
    assert ranked.order.tolist() == [1, 3, 0, 2]
    assert ranked.priority.tolist() == [5, 9, 1, 7]
    assert ranked.units == 4


def test_low_scores_go_first_where_high_ones_mean_keep():
    ranked = rank(chain(4), scores({"conv": layer([5, 9, 1, 7])}, criterion="l1", higher="keep"))
    assert ranked.order.tolist() == [2, 0, 3, 1]
    assert ranked.priority.tolist() == [-5, -9, -1, -7]


@pytest.mark.parametrize("higher", ["remove", "keep"])
def test_dead_filters_go_before_all_others_and_ties_by_index(higher):
    ranked = rank(chain(5), scores({"conv": layer([3, 3, 3, 3, 3], dead=[4, 2])}, higher=higher))
    assert ranked.order.tolist() == [2, 4, 0, 1, 3]
    assert ranked.dead.tolist() == [False, False, True, False, True]


def test_coupled_filters_count_as_their_mean_and_are_dead_only_together():
    units = ((0,), (1,), (2,))
    group = chain(3, filters={"conv": units, "shortcut": units, "unscored": units})
    found = scores({"conv": layer([0, 4, 8], dead=[0, 1]), "shortcut": layer([6, 0, 1], dead=[1])})
    ranked = rank(group, found)
    assert ranked.priority.tolist() == [3, 2, 4.5]
    assert ranked.dead.tolist() == [False, True, False]
    assert ranked.order.tolist() == [1, 2, 0]


def test_units_of_several_channels_count_as_the_mean_of_them():
    ranked = rank(chain(6, size=2), scores({"conv": layer([0, 1, 2, 10, 0, 0])}))  # units (0, 3), (1, 4), (2, 5)
    assert ranked.priority.tolist() == [5, 0.5, 1]
    assert ranked.first(2) == (0, 2)
    assert ranked.first(0) == ()


def test_each_filter_counts_once_where_a_layer_has_more_channels_of_a_unit_than_another():
    group = chain(2, filters={"conv": ((0,), (1,)), "wide": ((0, 1, 2), (3, 4, 5))})
    ranked = rank(group, scores({"conv": layer([8, 0]), "wide": layer([0, 0, 0, 2, 2, 4])}))
    assert ranked.priority.tolist() == [8 / 4, 8 / 4]


def test_above_counts_dead_units_and_is_strict():
    ranked = rank(chain(5), scores({"conv": layer([1, 300, 301, 400, 2], dead=[0])}))
    assert ranked.above(300) == 3
    assert ranked.above(299.5) == 4
    assert ranked.above(1000) == 1


@pytest.mark.parametrize(("ratio", "most"), [(None, 10), (0.5, 7), (0.3, 5), (0.05, 2), (0.99, 10)])
def test_ceiling_with_dead_units_on_top(ratio, most):
    ranked = rank(chain(10), scores({"conv": layer(range(10), dead=[0, 1])}))
    assert ranked.most(ratio) == most


def test_ceiling_is_not_lowered_by_floating_point():
    ranked = rank(chain(10), scores({"conv": layer(range(10))}))
    assert ranked.most(0.1 + 0.2) == 3
    assert ranked.most(0.7 - 0.4) == 3  # 0.29999999999999993


@pytest.mark.parametrize(
    ("width", "step"),
    [(2, 1), (8, 1), (15, 1), (16, 2), (31, 2), (32, 4), (64, 8), (127, 8), (128, 16), (512, 16), (2048, 16)],
)
def test_automatic_alignment_is_a_power_of_two_up_to_an_eighth_of_the_width(width, step):
    ranked = rank(chain(width), scores({"conv": layer(range(width))}))
    assert ranked.step(Limits()) == step


@pytest.mark.parametrize(("width", "step"), [(15, 1), (16, 8), (24, 8), (32, 8), (64, 8), (128, 16)])
def test_whole_blocks_are_kept_where_there_are_two(width, step):
    ranked = replace(rank(chain(width), scores({"conv": layer(range(width))})), blocks=True)
    assert ranked.step(Limits()) == step
    assert ranked.step(Limits(round_to=4)) == 4


@pytest.mark.parametrize(
    ("size", "round_to", "step"), [(2, 8, 4), (4, 8, 2), (8, 8, 1), (4, 6, 3), (3, 4, 4), (2, 1, 1)]
)
def test_alignment_counts_channels_not_units(size, round_to, step):
    ranked = rank(chain(48, size=size), scores({"conv": layer(range(48))}))
    assert ranked.step(Limits(round_to=round_to)) == step
    assert step * size % round_to == 0


def test_units_of_unlike_sizes_are_not_aligned():
    units = ((0, 1), (2,), (3,))
    group = chain(4, units=units, filters={"conv": units}, readers={"next": (2, 1, 1)})
    assert rank(group, scores({"conv": layer([1, 2, 3, 4])})).step(Limits(round_to=4)) == 1


@pytest.mark.parametrize(
    ("keep", "limits", "expected"),
    [
        (0, Limits(round_to=1), 1),
        (5, Limits(round_to=1), 5),
        (5, Limits(round_to=4), 8),
        (8, Limits(round_to=4), 8),
        (9, Limits(round_to=4), 10),  # 12 would be more than there are
        (2, Limits(min_channels=6, round_to=1), 6),
        (2, Limits(min_channels=6, round_to=4), 8),
        (2, Limits(min_channels=99, round_to=1), 10),
    ],
)
def test_kept_units_respect_floor_and_alignment(keep, limits, expected):
    assert rank(chain(10), scores({"conv": layer(range(10))})).aligned(keep, limits) == expected


def test_the_floor_counts_channels_not_units():
    ranked = rank(chain(12, size=4), scores({"conv": layer(range(12))}))
    assert ranked.aligned(0, Limits(min_channels=5, round_to=1)) == 2


@pytest.mark.parametrize(
    ("settings_", "text"),
    [
        ({"min_channels": 0}, "--min-channels 0: at least one channel must stay"),
        ({"max_ratio": 0.0}, "--max-ratio 0 must lie between 0 and 1"),
        ({"max_ratio": 1.0}, "--max-ratio 1 must lie between 0 and 1"),
        ({"max_ratio": -0.5}, "--max-ratio -0.5 must lie between 0 and 1"),
        ({"max_ratio": float("nan")}, "--max-ratio nan must lie between 0 and 1"),
        ({"round_to": 0}, "--round-to 0: give a positive number, 1 for no alignment, or auto"),
        ({"round_to": -8}, "--round-to -8"),
    ],
)
def test_limits_out_of_range_are_refused(settings_, text):
    with pytest.raises(PlanError) as caught:
        Limits(**settings_)
    assert text in f"{caught.value.what}\n{caught.value.hint}"


@given_nets
@given(nets())
def test_order_is_a_permutation_dead_first_then_worst_first(net):
    for group in net.groups[:-1]:
        ranked = rank(group, net.scores)
        assert sorted(ranked.order.tolist()) == list(range(len(group.units)))
        key = [(not ranked.dead[u], -ranked.priority[u], u) for u in ranked.order]
        assert key == sorted(key)


@given_nets
@given(nets(), st.randoms(use_true_random=False))
def test_ranking_does_not_depend_on_the_order_of_layers(net, random):
    names = list(net.scores.layers)
    random.shuffle(names)
    other = scores({name: net.scores.layers[name] for name in names})
    for group in net.groups[:-1]:
        filters = list(group.filters.items())
        random.shuffle(filters)
        shuffled = ChannelGroup(**{**vars(group), "filters": dict(filters)})
        assert rank(shuffled, other).order.tolist() == rank(group, net.scores).order.tolist()


@given_nets
@given(nets())
def test_keep_criteria_rank_in_reverse_of_remove_criteria(net):
    for group in net.groups[:-1]:
        remove = rank(group, net.scores)
        keep = rank(group, scores(net.scores.layers, higher="keep"))
        assert np.array_equal(keep.priority, -remove.priority)
        assert np.array_equal(keep.dead, remove.dead)
