from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.helpers.synthetic import chain, layer, nets, scores
from topocompress.errors import PlanError
from topocompress.planning.controls import matched_plan
from topocompress.planning.plan import make_plan
from topocompress.planning.ranking import rank
from topocompress.planning.rules import Limits
from topocompress.types import GroupPlan, PruningPlan


def plan_of(*groups):
    return PruningPlan(
        model="sha256:0", rule={"max_betti": 300}, criterion="betti", groups=groups, macs_before=9, macs_after=5
    )


def test_as_many_channels_go_as_planned_those_that_the_other_criterion_likes_least():
    plan = plan_of(GroupPlan(root="conv", width=5, remove=(0, 4), dead=(4,), above=3, coupled=("conv", "next")))
    other = scores({"conv": layer([9, 1, 8, 2, 7])}, criterion="l1", higher="keep")
    found = matched_plan(plan, [chain(5)], other)
    assert found.criterion == "l1"
    assert found.groups[0].remove == (1, 3)
    assert (found.groups[0].dead, found.groups[0].above) == ((), 0)
    assert found.groups[0].coupled == ("conv", "next")
    assert (found.groups[0].filters, found.groups[0].readers) == ({"conv": (5, 3)}, {"next": (5, 3)})
    assert (found.model, found.rule, found.macs_before, found.macs_after) == ("sha256:0", {"max_betti": 300}, 9, 5)
    assert plan.groups[0].remove == (0, 4)


def test_units_of_several_channels_stay_whole():
    plan = plan_of(GroupPlan(root="conv", width=6, remove=(0, 3)))  # one unit of (0, 3), (1, 4), (2, 5)
    other = scores({"conv": layer([0, 5, 5, 0, 1, 9])}, criterion="random")
    assert matched_plan(plan, [chain(6, size=2)], other).groups[0].remove == (2, 5)


def test_groups_that_stay_whole_need_no_scores():
    kept = (GroupPlan(root="a", width=3), GroupPlan(root="b", width=3, protected="not scored"))
    plan = plan_of(*kept, GroupPlan(root="conv", width=3, remove=(0,)))
    found = matched_plan(plan, [chain(3)], scores({"conv": layer([1, 2, 3])}))
    assert found.groups[:2] == kept
    assert found.groups[2].remove == (2,)


@settings(max_examples=60)
@given(nets(), st.data())
def test_a_matched_plan_has_the_same_widths_and_the_same_macs(net, data):
    try:
        plan = make_plan(net.scores, net.groups, net.costs, ratio=0.4, limits=Limits(round_to=1))
    except PlanError:
        plan = None
    assume(plan is not None)
    values = {
        name: layer(data.draw(st.lists(st.integers(0, 9), min_size=len(found.values), max_size=len(found.values))))
        for name, found in net.scores.layers.items()
    }
    other = scores(values, criterion="l1", higher="keep")
    matched = matched_plan(plan, net.groups, other)
    assert [entry.kept for entry in matched.groups] == [entry.kept for entry in plan.groups]
    assert net.recount(matched) == plan.macs_after == matched.macs_after
    for group, entry in zip(net.groups[:-1], matched.groups, strict=False):
        whole = {u for u, unit in enumerate(group.units) if set(unit) <= set(entry.remove)}
        assert whole == set(rank(group, other).first(len(whole)))
        assert {channel for u in whole for channel in group.units[u]} == set(entry.remove)
    assert matched_plan(plan, net.groups, net.scores) == _without_notes(plan)


def _without_notes(plan):
    groups = tuple(
        GroupPlan(**{**vars(entry), "dead": (), "above": 0}) if entry.remove else entry for entry in plan.groups
    )
    return PruningPlan(**{**vars(plan), "groups": groups})
