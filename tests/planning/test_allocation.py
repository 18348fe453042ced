"""Where to cut: prices, targets, limits."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from tests.helpers.synthetic import chain, layer, nets, scores
from topocompress.errors import PlanError
from topocompress.planning.allocation import CEILING
from topocompress.planning.plan import make_plan
from topocompress.planning.rules import Limits
from topocompress.types import LayerCost

FREE = Limits(round_to=1)


def two_layers(first, second, *, cheap=1):
    """Two groups of four channels with scores of one unit; the second's layer costs ``cheap`` times the first's."""
    groups = [chain(4, root="a", reader="b"), chain(4, root="b", reader="head")]
    costs = {
        "a": LayerCost(macs=400, outputs=4, inputs=0),
        "b": LayerCost(macs=400 * cheap, outputs=4, inputs=0),
        "head": LayerCost(macs=0, outputs=10, inputs=4),
    }
    found = scores({"a": layer(first), "b": layer(second)}, criterion="persistence", higher="keep")
    return replace(found, comparable=True), groups, costs


def gone(plan):
    return {entry.root: entry.remove for entry in plan.groups}


def test_the_least_loss_goes_wherever_it_is():
    found, groups, costs = two_layers([9, 8, 7, 6], [1, 2, 3, 10])

    plan = make_plan(found, groups, costs, target_macs=0.65, limits=FREE, allocation="global")

    assert gone(plan) == {"a": (), "b": (0, 1, 2)}
    assert plan.macs_after == 500
    assert plan.rule["allocation"] == "global"
    uniform = make_plan(found, groups, costs, target_macs=0.65, limits=FREE, allocation="uniform")
    assert gone(uniform) == {"a": (3,), "b": (0, 1)}
    assert "allocation" not in uniform.rule


def test_by_itself_the_least_loss_goes_as_far_as_it_reaches_where_layers_can_be_compared():
    found, groups, costs = two_layers([9, 8, 7, 6], [1, 2, 3, 10])

    def planned(scores, share, **allocation):
        return make_plan(scores, groups, costs, target_macs=share, limits=FREE, **allocation)

    assert planned(found, 0.65) == planned(found, 0.65, allocation="global")
    apart = replace(found, comparable=False)
    assert planned(apart, 0.65) == planned(apart, 0.65, allocation="uniform")
    wide = replace(scores({"conv": layer(range(100))}), comparable=True)
    groups, costs = [chain(100, readers={})], {"conv": LayerCost(macs=100, outputs=100, inputs=0)}
    with pytest.raises(PlanError, match="out of reach"):
        planned(wide, 0.1, allocation="global")
    assert planned(wide, 0.1) == planned(wide, 0.1, allocation="uniform")


def test_loss_is_weighed_against_what_is_saved():
    """Squared loss per saving: 16 / 1,000 in the dear layer, 4 / 100 in the cheap one."""
    found, groups, costs = two_layers([2, 2, 2, 2], [4, 9, 9, 9], cheap=10)

    assert gone(make_plan(found, groups, costs, target_macs=0.8, limits=FREE, allocation="global")) == {
        "a": (),
        "b": (0,),
    }


def test_no_layer_loses_more_than_the_ceiling():
    found, groups, costs = two_layers([1, 1, 1, 1], [50, 60, 70, 80])

    plan = make_plan(found, groups, costs, target_macs=0.5, limits=FREE, allocation="global")

    assert gone(plan) == {"a": (0, 1, 2), "b": (0,)}
    assert CEILING == 3 / 4
    tight = Limits(round_to=1, max_ratio=0.5)
    assert gone(make_plan(found, groups, costs, target_macs=0.5, limits=tight, allocation="global")) == {
        "a": (0, 1),
        "b": (0, 1),
    }


def test_dead_units_are_free():
    found, groups, costs = two_layers([5, 5, 5, 5], [9, 9, 9, 9])
    dead = replace(found, layers={**found.layers, "b": layer([9, 9, 9, 9], dead=[2])})

    assert gone(make_plan(dead, groups, costs, target_macs=0.9, limits=FREE, allocation="global"))["b"] == (2,)


@pytest.mark.parametrize("target", [0.05, 0.2])
def test_a_target_out_of_reach_is_refused(target):
    found, groups, costs = two_layers([1, 2, 3, 4], [1, 2, 3, 4])

    with pytest.raises(PlanError, match="out of reach"):
        make_plan(found, groups, costs, target_macs=target, limits=FREE, allocation="global")


def test_what_makes_no_sense_is_refused():
    found, groups, costs = two_layers([1, 2, 3, 4], [1, 2, 3, 4])

    with pytest.raises(PlanError, match="needs a target"):
        make_plan(found, groups, costs, ratio=0.5, allocation="global")
    with pytest.raises(PlanError, match="common unit"):
        make_plan(replace(found, comparable=False), groups, costs, target_macs=0.5, allocation="global")
    with pytest.raises(PlanError, match="uniform or global"):
        make_plan(found, groups, costs, target_macs=0.5, allocation="nowhere")


def narrow_and(other):
    """A group of 24 channels, the last six of which are worth least, and one of ``other``, all of them worth more."""
    groups = [chain(24, root="narrow", reader="other"), chain(other, root="other", reader="head")]
    costs = {
        "narrow": LayerCost(macs=2400, outputs=24, inputs=0),
        "other": LayerCost(macs=2400, outputs=other, inputs=0),
        "head": LayerCost(macs=0, outputs=10, inputs=other),
    }
    values = {"narrow": layer([*range(100, 118), 1, 1, 1, 1, 1, 1]), "other": layer([10_000] * other)}
    return replace(scores(values, criterion="persistence", higher="keep"), comparable=True), groups, costs


@pytest.mark.parametrize(
    ("other", "limits", "kept"),
    [
        (64, Limits(), 18),  # in steps of 2, an eighth of 24
        (128, Limits(), 18),
        (256, Limits(), 16),
        (256, Limits(round_to=2), 18),
    ],
)
def test_narrow_groups_keep_whole_blocks_where_there_are_wide_ones(other, limits, kept):
    found, groups, costs = narrow_and(other)

    plan = make_plan(found, groups, costs, target_macs=0.875, limits=limits)

    assert (plan.groups[0].kept, plan.groups[1].kept) == (kept, other)


def test_where_whole_blocks_do_not_reach_smaller_steps_do():
    found, groups, costs = narrow_and(256)
    limits = Limits(max_ratio=0.25)  # six channels of 24, which are no whole block

    plan = make_plan(found, groups, costs, target_macs=0.75, limits=limits, allocation="global")

    assert (plan.groups[0].kept, plan.groups[1].kept) == (18, 192)


@given(nets(higher="keep"))
@settings(max_examples=60)
def test_the_target_is_met_and_the_prediction_is_exact(net):
    found = replace(net.scores, comparable=True)
    try:
        plan = make_plan(found, net.groups, net.costs, target_macs=0.6, limits=FREE, allocation="global")
    except PlanError:
        return
    assert plan.macs_after <= 0.6 * plan.macs_before
    assert plan.macs_after == net.recount(plan)


def test_the_order_within_a_layer_is_kept():
    generator = np.random.default_rng(0)
    first, second = generator.random(4), generator.random(4)
    found, groups, costs = two_layers(first, second)

    for root, remove in gone(
        make_plan(found, groups, costs, target_macs=0.5, limits=FREE, allocation="global")
    ).items():
        values = found.layers[root].values
        kept = np.setdiff1d(np.arange(4), remove)
        assert not remove or values[list(remove)].max() <= values[kept].min()
