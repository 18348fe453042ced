"""What holds for every plan."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.helpers.synthetic import nets, removed, scores
from topocompress.errors import PlanError
from topocompress.planning.plan import make_plan
from topocompress.planning.ranking import rank
from topocompress.planning.rules import Limits

laws = settings(max_examples=80)
limit_sets = st.builds(
    Limits,
    min_channels=st.integers(1, 12),
    max_ratio=st.one_of(st.none(), st.sampled_from((0.1, 0.25, 0.5, 0.9))),
    round_to=st.one_of(st.just("auto"), st.integers(1, 8)),
)
rules = st.one_of(
    st.builds(dict, max_betti=st.integers(0, 30)),
    st.builds(dict, ratio=st.floats(0.01, 0.99)),
    st.builds(dict, target_macs=st.floats(0.05, 0.99)),
)


def attempt(net, limits, found=None, **rule):
    """The plan, or ``None`` where the rule is refused."""
    try:
        return make_plan(found or net.scores, net.groups, net.costs, limits=limits, **rule)
    except PlanError:
        return None


def ceiling(ranked, limits, rule):
    """Most units that may go, counted one by one."""
    share = limits.max_ratio or (0.5 if "max_betti" in rule else 1.0)
    alive = sum(1 for count in range(1, ranked.units + 1) if count <= share * ranked.units + 1e-9)
    return int(ranked.dead.sum()) + min(alive, int((~ranked.dead).sum()))


@laws
@given(nets(), limit_sets, rules)
def test_every_plan_keeps_within_its_limits_and_takes_the_worst_units_whole(net, limits, rule):
    plan = attempt(net, limits, **rule)
    assume(plan is not None)
    assert plan.removed > 0
    assert plan.groups[-1].remove == ()  # the protected one
    assert plan.macs_before == sum(cost.macs for cost in net.costs.values())
    assert plan.macs_after == net.recount(plan) < plan.macs_before
    for group, entry in zip(net.groups[:-1], plan.groups, strict=False):
        ranked, gone = rank(group, net.scores), set(entry.remove)
        if not gone:
            continue
        assert entry.kept >= max(1, min(limits.min_channels, group.width))
        step = limits.round_to
        if step == "auto":
            step = max(power for power in (1, 2, 4, 8, 16) if power <= max(1, group.width // 8))
        assert entry.kept % step == 0
        whole = [u for u, unit in enumerate(group.units) if set(unit) <= gone]
        assert gone == {channel for u in whole for channel in group.units[u]}
        assert sorted(whole) == sorted(ranked.order[: len(whole)])
        assert len(whole) <= ceiling(ranked, limits, rule)
        assert set(entry.dead) == {channel for u in whole if ranked.dead[u] for channel in group.units[u]}


@laws
@given(nets(), limit_sets, st.integers(0, 30))
def test_a_threshold_removes_as_many_units_as_the_limits_allow(net, limits, threshold):
    plan = attempt(net, limits, max_betti=threshold)
    entries = [(group, rank(group, net.scores)) for group in net.groups[:-1]]
    most = []
    for group, ranked in entries:
        wanted = min(ranked.above(threshold), ceiling(ranked, limits, {"max_betti": threshold}))
        size, step = len(group.units[0]), ranked.step(limits)
        keeps = [k for k in range(1, ranked.units) if size * k >= limits.min_channels and k % step == 0]
        most.append(max([ranked.units - k for k in keeps if ranked.units - k <= wanted], default=0))
    if plan is not None:
        assert [len(e.remove) // len(g.units[0]) for (g, _), e in zip(entries, plan.groups, strict=False)] == most
        assert [e.above // len(g.units[0]) for (g, _), e in zip(entries, plan.groups, strict=False)] == [
            ranked.above(threshold) for _, ranked in entries
        ]
    elif any(most):  # then the rule was refused since all that is alive lies above it
        assert all((ranked.priority[~ranked.dead] > threshold).all() for _, ranked in entries)


@laws
@given(nets(), limit_sets, st.integers(0, 30), st.integers(0, 30))
def test_a_higher_threshold_removes_a_part_of_what_a_lower_one_does(net, limits, first, second):
    low, high = (attempt(net, limits, max_betti=threshold) for threshold in sorted((first, second)))
    if low is not None and high is not None:
        assert all(part <= removed(low)[root] for root, part in removed(high).items())
    elif high is not None:  # the lower one is refused only where it asks for everything
        with pytest.raises(PlanError, match="would remove everything"):
            make_plan(net.scores, net.groups, net.costs, max_betti=min(first, second), limits=limits)


@laws
@given(nets(), limit_sets, rules, st.randoms(use_true_random=False))
def test_the_same_question_gets_the_same_plan_in_whatever_order_layers_come(net, limits, rule, random):
    names = list(net.scores.layers)
    random.shuffle(names)
    other = scores({name: net.scores.layers[name] for name in names})
    assert attempt(net, limits, **rule) == attempt(net, limits, **rule) == attempt(net, limits, other, **rule)


@settings(laws, max_examples=30)
@given(nets(depth=3), limit_sets, st.floats(0.1, 0.95))
def test_a_macs_target_is_reached_with_the_smallest_share_that_does(net, limits, target):
    by_share = [attempt(net, limits, ratio=share / 150) for share in range(1, 150)]
    plan = attempt(net, limits, target_macs=target)
    goal = target * sum(cost.macs for cost in net.costs.values())
    if plan is None:
        assert all(other is None or other.macs_after > goal for other in by_share)
        return
    assert plan.macs_after <= goal
    for other in by_share:
        if other is not None and other.removed < plan.removed:
            assert other.macs_after > goal
