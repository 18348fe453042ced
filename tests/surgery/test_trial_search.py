"""Of groups that fail together, a search finds those to blame."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from tests.helpers.synthetic import group
from tests.helpers.tiny_nets import Chain, Residual, example, seeded
from topocompress.surgery import trial
from topocompress.surgery.trial import prunable_groups, tried
from topocompress.types.reasons import Kind, Reason


@pytest.fixture
def scripted(monkeypatch):
    """Lets a test say which plans fail; networks need not run then."""

    def script(fails):
        monkeypatch.setattr(trial, "refusal", lambda *given: "differs" if fails(*given) else "")
        monkeypatch.setattr(trial, "Yardstick", lambda *_: None)
        monkeypatch.setattr(trial, "lost_places", lambda *_: {})

    return script


def test_the_search_ends_when_its_time_is_over(scripted, monkeypatch):
    model = nn.Sequential(*(nn.Conv2d(1, 4, 1) for _ in range(8)))
    scripted(lambda _model, plan, _inputs: "2" in {entry.root for entry in plan.groups})
    monkeypatch.setattr(trial, "SECONDS", -1.0)
    found = [entry.protected for entry in tried(model, [group(str(number)) for number in range(8)], example())]
    assert found == ["", "", Reason(Kind.CHANGED), *[Reason(Kind.UNTRIED)] * 5]


@pytest.mark.parametrize("culprits", [set(), {3}, {0}, {7}, {2, 3}, {0, 5, 7}, set(range(8))])
def test_the_search_finds_exactly_the_groups_that_fail(culprits, scripted):
    model = nn.Sequential(*(nn.Conv2d(1, 4, 1) for _ in range(8)))
    groups = [group(str(number)) for number in range(8)]
    tried_plans = []

    def fails(_model, plan, _inputs):
        tried_plans.append(plan)
        return any(int(entry.root) in culprits for entry in plan.entries)

    scripted(fails)
    found = tried(model, groups, example())
    assert {int(entry.root) for entry in found if entry.protected} == culprits
    joined = 1 + len(culprits) * (2 < len(culprits) <= trial.FEW) if len(culprits) > 1 else 0
    assert len(tried_plans) <= 1 + 2 * 3 * len(culprits) + joined
    if culprits == {7}:  # of two halves the second is known to fail where the first does not
        assert len(tried_plans) <= 1 + 3
    plans = [frozenset((entry.root, entry.also) for entry in plan.groups) for plan in tried_plans]
    assert len(plans) == len(set(plans))
    removed = {entry.root: len(entry.remove) for entry in tried_plans[0].groups}
    assert [removed[str(number)] for number in range(8)] == [1, 2] * 4  # or equal widths would go unseen


def test_of_groups_that_fail_together_only_the_first_stays_free(scripted):
    model = nn.Sequential(*(nn.Conv2d(1, 4, 1) for _ in range(4)))
    groups = [group(str(number)) for number in range(4)]
    scripted(lambda _model, plan, _inputs: {"1", "2"} <= {entry.root for entry in plan.groups})
    assert [entry.root for entry in tried(model, groups, example()) if entry.protected] == ["2"]


def test_whole_units_are_removed_and_some_stay(scripted):
    plans = []
    scripted(lambda _model, plan, _inputs: plans.append(plan))
    groups = [group("0", 8, 2), group("1", 1), group("2", protected="ignored: 2")]
    model = nn.Sequential(*(nn.Conv2d(1, 8, 1) for _ in range(3)))
    assert tried(model, groups, example()) == tuple(groups)
    ((entry,),) = [plan.groups for plan in plans]
    assert entry.remove in [(0, 4), (1, 5), (2, 6), (3, 7)]
    assert entry.root == "0"


def test_the_trial_is_the_same_every_time(scripted):
    plans = []
    scripted(lambda _model, plan, _inputs: plans.append(plan))
    for _ in range(2):
        np.random.seed(7)  # noqa: NPY002 - the global state is what must not matter
        prunable_groups(seeded(Residual), example())
        prunable_groups(seeded(Chain), example())
    assert plans[0] == plans[2]
    assert plans[1] == plans[3]
    assert plans[0] != plans[1]


def test_a_group_that_torch_pruning_cannot_remove_stays_whole():
    model = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 1), nn.GroupNorm(1, 8), nn.Conv2d(8, 6, 1), nn.BatchNorm2d(6), nn.Conv2d(6, 2, 1)
        )
    )
    model[1].bias = None  # torch-pruning expects one
    found = {each.root: each.protected for each in prunable_groups(model, example())}
    assert (found["0"], found["2"]) == (Reason(Kind.CHANGED), "")
