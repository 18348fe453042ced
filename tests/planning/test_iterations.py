import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.helpers.synthetic import chain, layer, nets, scores
from tests.helpers.tiny_nets import Chain, Depthwise, Grouped, Residual, example, seeded
from topocompress.criteria import L1
from topocompress.dependencies.groups import find_groups
from topocompress.errors import PlanError
from topocompress.planning.iterations import compose, iteration_plan
from topocompress.planning.plan import make_plan
from topocompress.planning.rules import Limits
from topocompress.surgery.removal import apply
from topocompress.types import GroupPlan, LayerCost, PruningPlan
from topocompress.workflows.single_steps import layer_costs, score_groups


def plan_of(*groups, **facts):
    settings = {"model": "sha256:0", "rule": {"ratio": 0.5}, "criterion": "l1", "macs_before": 100, "macs_after": 60}
    return PruningPlan(groups=groups, **{**settings, **facts})


def test_channels_of_the_second_iteration_are_counted_in_the_original():
    # Of 0..5 first 1 and 4 go; 0, 2, 3, 5 are left, of which the second and the last go: 2 and 5.
    first = GroupPlan(
        root="a", width=6, remove=(1, 4), dead=(4,), filters={"a": (6, 4)}, readers={"b": (12, 8)}, coupled=("a", "b")
    )
    second = GroupPlan(root="a", width=4, remove=(1, 3), filters={"a": (4, 2)}, readers={"b": (8, 4)})
    found = compose(plan_of(first), plan_of(second, model="sha256:1", macs_before=60, macs_after=30))
    assert found.groups[0].remove == (1, 2, 4, 5)
    assert found.groups[0].dead == (4,)
    assert (found.groups[0].filters, found.groups[0].readers) == ({"a": (6, 2)}, {"b": (12, 4)})
    assert (found.model, found.macs_before, found.macs_after) == ("sha256:0", 100, 30)


def test_a_second_plan_of_something_else_is_refused():
    first = plan_of(GroupPlan(root="a", width=6, remove=(1, 4)), GroupPlan(root="b", width=2))
    with pytest.raises(PlanError, match="not of what the first leaves: a, b"):
        compose(first, plan_of(GroupPlan(root="a", width=6)))
    with pytest.raises(PlanError, match="not of what the first leaves: c"):
        compose(plan_of(), plan_of(GroupPlan(root="c", width=6)))


def test_each_iteration_takes_its_share_of_what_is_to_go():
    whole = plan_of(GroupPlan(root="conv", width=8, remove=(0, 1, 2, 3, 4)))
    costs = {"conv": LayerCost(macs=80, outputs=8, inputs=0)}
    first = iteration_plan(whole, None, 1 / 2, scores({"conv": layer(range(8))}), [chain(8)], costs)
    assert first.groups[0].remove == (6, 7)  # half of five is two; betti removes high scores
    assert (first.macs_before, first.macs_after) == (80, 60)
    left = scores({"conv": layer([9, 0, 8, 1, 7, 2])})
    second = iteration_plan(whole, first, 1.0, left, [chain(6)], {"conv": LayerCost(macs=60, outputs=6, inputs=0)})
    assert second.groups[0].remove == (0, 2, 4)
    assert compose(first, second).groups[0].remove == (0, 2, 4, 6, 7)


def test_units_stay_whole_in_every_iteration_and_protected_groups_untouched():
    whole = plan_of(GroupPlan(root="conv", width=8, remove=(0, 1, 4, 5)), GroupPlan(root="kept", width=3))
    groups = [chain(8, size=2), chain(3, root="kept", protected="feeds the model's output")]
    found = scores({"conv": layer([5, 9, 0, 0, 5, 9, 0, 0]), "kept": layer([1, 2, 3])})
    third = iteration_plan(whole, None, 1 / 3, found, groups, {})
    assert third.groups[0].remove == ()  # one channel of four is no whole unit of two
    half = iteration_plan(whole, None, 1 / 2, found, groups, {})
    assert half.groups[0].remove == (1, 5)
    assert half.groups[1] == GroupPlan(
        root="kept",
        width=3,
        coupled=("kept", "next"),
        filters={"kept": (3, 3)},
        readers={"next": (3, 3)},
        protected="feeds the model's output",
    )


@settings(max_examples=50)
@given(nets(), st.integers(1, 4))
def test_all_iterations_together_have_the_widths_of_one(net, iterations):
    """With scores that do not change, they remove the very same channels."""
    try:
        whole = make_plan(net.scores, net.groups, net.costs, ratio=0.6, limits=Limits(round_to=1))
    except PlanError:
        whole = None
    assume(whole is not None)
    done, groups, found = None, net.groups, net.scores
    for number in range(1, iterations + 1):
        part = iteration_plan(whole, done, number / iterations, found, groups, {})
        done = part if done is None else compose(done, part)
        groups = [_without(group, entry) for group, entry in zip(net.groups, done.groups, strict=True)]
        found = scores(
            {
                name: _kept(values, group.filters[name], entry)
                for group, entry in zip(net.groups, done.groups, strict=True)
                for name, values in net.scores.layers.items()
                if name in group.filters
            }
        )
    assert [entry.remove for entry in done.groups] == [entry.remove for entry in whole.groups]


def _kept(found, filters, entry):
    gone = {channel for unit in filters if set(unit) <= set(entry.remove) for channel in unit}
    kept = [channel for channel in range(len(found.values)) if channel not in gone]
    return layer(found.values[kept], [place for place, channel in enumerate(kept) if found.dead[channel]])


def _without(group, entry):
    units = [unit for unit in group.units if not set(unit) <= set(entry.remove)]
    place = {channel: index for index, channel in enumerate(sorted(channel for unit in units for channel in unit))}
    renumbered = tuple(tuple(place[channel] for channel in unit) for unit in units)
    readers = {name: counts[: len(units)] for name, counts in group.readers.items()}
    return type(group)(
        **{
            **vars(group),
            "width": len(place),
            "units": renumbered,
            "filters": dict.fromkeys(group.filters, renumbered),
            "readers": readers,
        }
    )


@pytest.mark.parametrize("kind", [Chain, Residual, Depthwise, Grouped])
def test_two_cuts_leave_the_network_that_their_composition_leaves(kind):
    model, inputs = seeded(kind), example()

    def planned(network, ratio):
        groups = find_groups(network, inputs)
        found = score_groups(network, groups, L1(), None, example=inputs)
        return make_plan(found, groups, layer_costs(network, inputs), ratio=ratio, limits=Limits(round_to=1))

    first = planned(model, 0.3)
    once = apply(model, first, example=inputs)
    second = planned(once, 0.4)
    twice = apply(once, second, example=inputs)
    together = apply(model, compose(first, second), example=inputs)
    assert [tuple(p.shape) for p in together.parameters()] == [tuple(p.shape) for p in twice.parameters()]
    with torch.no_grad():
        assert torch.equal(together(inputs), twice(inputs))
