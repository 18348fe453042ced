from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.helpers.synthetic import chain, layer, nets, scores
from topocompress.errors import PlanError
from topocompress.planning.rules import Limits
from topocompress.planning.selection import Reached, Selection, find_within, step_back
from topocompress.types import LayerCost


def hundred(**limits):
    """One group of 100 channels that cost 1 each: a plan's share of the MACs is its share of channels."""
    return Selection(
        scores=scores({"conv": layer(range(100))}),
        groups=[chain(100, readers={})],
        costs={"conv": LayerCost(macs=100, outputs=100, inputs=0)},
        limits=Limits(round_to=1, **limits),
    )


def share(plan):
    return plan.macs_after / plan.macs_before


def test_plans_by_any_rule_without_scoring_again():
    selection = hundred()
    assert share(selection.plan({"ratio": 0.25})) == 0.75
    assert share(selection.plan({"target_macs": 0.5})) == 0.5
    assert selection.plan({"max_betti": 90}).groups[0].remove == tuple(range(91, 100))
    assert share(selection.smallest()) == 0.01
    assert share(hundred(min_channels=30).smallest()) == 0.3


def test_a_latency_is_met_by_the_largest_network_that_is_close_to_it():
    found, budget = find_within(hundred(), {"target_latency": 0.6}, lambda plan: 0.2 + 0.8 * share(plan))
    assert 0.588 <= 0.2 + 0.8 * share(found) <= 0.6
    assert (budget.option, budget.limit, budget.samples) == ("--target-latency", 0.6, 0)
    assert [round(probe.macs, 2) for probe in budget.probes[:3]] == [0.01, 0.5, 0.25]
    assert [probe.met for probe in budget.probes[:3]] == [True, False, True]
    assert budget.probes[0].value == pytest.approx(0.208)
    assert max(probe.macs for probe in budget.probes if probe.met) == share(found)


def test_an_accuracy_drop_is_met_by_the_smallest_network():
    found, budget = find_within(hundred(), {"max_accuracy_drop": 4.0}, lambda plan: 10 * (1 - share(plan)), samples=500)
    assert share(found) == pytest.approx(0.6, abs=0.01)
    assert 10 * (1 - share(found)) <= 4.0
    assert budget.samples == 500
    assert min(probe.macs for probe in budget.probes if probe.met) == share(found)


def test_no_plan_is_tried_twice():
    tried = []
    selection = hundred(min_channels=90)

    def measure(plan):
        tried.append(plan.groups)
        return share(plan)

    find_within(selection, {"target_latency": 0.999}, measure)
    assert len(tried) == len(set(map(repr, tried)))


class Few:
    """A selection that has plans for a few shares of 100 multiply-accumulates only."""

    def __init__(self, *lefts):
        self.plans = {left: replace(hundred().plan({"target_macs": left / 100}), macs_after=left) for left in lefts}

    def plan(self, rule):
        return self.plans[max(left for left in self.plans if left <= 100 * rule["target_macs"])]

    def smallest(self):
        return self.plans[min(self.plans)]


def test_a_plan_that_comes_again_is_judged_by_its_own_value_not_by_the_last_try():
    # 10 is met, 52 is not, then 32.5 leads to 10 again: the search must go on to 40.
    values = {10: 0.1, 40: 0.59, 52: 0.61}
    found, budget = find_within(Few(*values), {"target_latency": 0.6}, lambda plan: values[plan.macs_after])
    assert found.macs_after == 40
    assert [probe.value for probe in budget.probes] == [0.1, 0.61, 0.59]


@pytest.mark.parametrize(
    ("rule", "measure", "text"),
    [
        (
            {"target_latency": 0.2},
            lambda plan: 0.3 + share(plan),
            r"0.2 is out of reach: .* 0.31 of the original's lat",
        ),
        (
            {"target_size": 2e6},
            lambda plan: 9e6 * share(plan) + 3e6,
            "target_size=2000000 is out of reach: .* 3.09 MB is left",
        ),
        ({"max_accuracy_drop": 0.5}, lambda plan: 1 + share(plan), "with 99.0% of the .*, 1.99 points are gone"),
    ],
)
def test_a_budget_out_of_reach_says_what_can_be_reached(rule, measure, text):
    with pytest.raises(PlanError, match=text) as caught:
        find_within(hundred(), rule, measure)
    assert caught.value.hint


def test_where_nothing_can_be_removed_there_is_no_search():
    with pytest.raises(PlanError, match="removes nothing"):
        find_within(hundred(min_channels=100), {"max_accuracy_drop": 1.0}, share)


@settings(max_examples=60)
@given(nets(), st.floats(0.05, 0.95))
def test_what_is_found_is_within_the_budget_and_refused_only_if_the_smallest_network_is_not(net, limit):
    selection = Selection(scores=net.scores, groups=net.groups, costs=net.costs, limits=Limits(round_to=1))
    try:
        smallest = selection.smallest()
    except PlanError:
        smallest = None
    assume(smallest is not None)
    if share(smallest) > limit:
        with pytest.raises(PlanError, match="out of reach"):
            find_within(selection, {"target_latency": limit}, share)
        return
    found, budget = find_within(selection, {"target_latency": limit}, share)
    assert share(found) <= limit
    assert all(probe.met == (probe.value <= limit) for probe in budget.probes)
    assert not any(share(found) < probe.macs <= limit for probe in budget.probes)


def test_a_bound_decides_what_is_within_a_budget_and_the_value_is_kept():
    def measure(plan):
        lost = 10 * (1 - share(plan))
        return Reached(value=lost, upper=lost + 2)

    found, budget = find_within(hundred(), {"max_accuracy_drop": 4.0}, measure)
    assert share(found) == pytest.approx(0.8, abs=0.02)
    for probe in budget.probes:
        assert probe.upper == pytest.approx(probe.value + 2)
        assert probe.met == (probe.upper <= 4.0)


def test_one_out_of_reach_says_how_sure_that_is():
    with pytest.raises(PlanError, match=r"2 points are gone, and it may be .* judged on so few samples") as refused:
        find_within(hundred(), {"max_accuracy_drop": 1.0}, lambda _: Reached(value=2.0, upper=3.0))
    assert "More labelled images" in refused.value.hint


@pytest.mark.parametrize(("lost", "said"), [(0.5, "0.5"), (-0.7, "0")])
def test_where_so_little_was_lost_only_images_are_missing(lost, said):
    with pytest.raises(PlanError, match=rf"cannot be shown .* {said} points are gone, but up to 3 may be") as refused:
        find_within(hundred(), {"max_accuracy_drop": 1.0}, lambda _: Reached(value=lost, upper=3.0))
    assert refused.value.hint.startswith("Give more of them")


def test_a_share_that_a_global_choice_does_not_reach_sends_the_search_to_larger_ones():
    selection = replace(hundred(), allocation="global")
    selection = replace(selection, scores=replace(selection.scores, comparable=True, higher="keep"))
    found, _ = find_within(selection, {"max_accuracy_drop": 9.0}, lambda plan: 10 * (1 - share(plan)))
    assert share(found) == pytest.approx(0.25, abs=0.02)  # it cuts three quarters of a layer at the most


@given(st.lists(st.floats(0, 10), min_size=1, max_size=8), st.floats(0, 10))
def test_the_first_within_the_limit_is_taken_else_the_last(lost, limit):
    asked = []
    number, kept = step_back((asked.append(value) or value for value in lost), limit)
    within = [index for index, value in enumerate(lost) if value <= limit]
    assert kept == bool(within)
    assert number == (within[0] if within else len(lost) - 1)
    assert asked == lost[: number + 1]
