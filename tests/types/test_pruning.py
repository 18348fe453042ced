import dataclasses
import inspect
import json

import numpy as np
import pytest

from topocompress.errors import CriterionError, PlanError
from topocompress.types import Architecture, Control, GroupPlan, LayerScores, Preprocessing, PruningPlan, Scores
from topocompress.types import pruning as types

CLASSES = [
    found
    for _, found in inspect.getmembers(types, inspect.isclass)
    if found.__module__ == types.__name__ and dataclasses.is_dataclass(found)
]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_type_is_frozen_keyword_only_and_says_what_each_field_is(kind):
    assert kind.__dataclass_params__.frozen
    for field in dataclasses.fields(kind):
        assert field.kw_only
        assert f"{field.name}:" in kind.__doc__


def test_fields_cannot_be_changed_or_given_by_place():
    entry = GroupPlan(root="conv", width=4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.width = 5
    with pytest.raises(TypeError):
        GroupPlan("conv", 4)


@pytest.mark.parametrize(
    ("values", "dead", "text"),
    [
        ([[1.0, 2.0]], [False], "one number per filter; got shape (1, 2) for 1 filters"),
        ([1.0, 2.0], [False], "got shape (2,) for 1 filters"),
        ([1.0, np.nan], [False, False], "finite; got NaN or infinity"),
        ([np.inf, 1.0], [False, False], "finite"),
        ([1.0, -np.inf], [False, True], "finite"),
    ],
)
def test_scores_are_one_finite_number_per_filter(values, dead, text):
    with pytest.raises(CriterionError) as caught:
        LayerScores(values=np.array(values), dead=np.array(dead))
    assert text in str(caught.value)


def test_good_scores_are_kept_as_given():
    values, dead = np.array([1.0, -2.0]), np.array([True, False])
    found = LayerScores(values=values, dead=dead)
    assert found.values is values
    assert found.dead is dead
    assert found.parts == {}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"remove": (2, 1)}, "conv: channels to remove must be sorted and unique"),
        ({"remove": (1, 1)}, "sorted and unique"),
        ({"remove": (-1,)}, "conv: a channel to remove lies outside 0..3"),
        ({"remove": (0, 4)}, "outside 0..3"),
        ({"remove": (0, 1, 2, 3)}, "all 4 channels would be removed; at least one must stay"),
        ({"width": 0}, "at least one must stay"),
        ({"remove": (1,), "protected": "ignored: conv"}, "conv is protected (ignored: conv) and cannot lose channels"),
        ({"remove": (1,), "dead": (2,)}, "dead channels must be among those removed"),
        ({"dead": (2,)}, "among those removed"),
        ({"remove": (1,), "filters": {"conv": (4, 4)}}, "conv: its widths are not 4 before and 3 after"),
    ],
)
def test_a_group_plan_that_cannot_be_applied_is_refused(changes, text):
    with pytest.raises(PlanError) as caught:
        GroupPlan(**{"root": "conv", "width": 4, **changes})
    assert text in str(caught.value)


def test_what_stays_and_what_goes_are_counted():
    groups = (
        GroupPlan(root="a", width=4, remove=(0, 3), dead=(3,)),
        GroupPlan(root="b", width=6, protected="feeds the model's output"),
        GroupPlan(root="c", width=8, remove=(7,)),
    )
    plan = PruningPlan(model="m", rule={}, criterion="betti", groups=groups, macs_before=9, macs_after=4)
    assert [group.kept for group in groups] == [2, 6, 7]
    assert plan.removed == 3
    assert json.loads(json.dumps(dataclasses.asdict(plan)))["groups"][0]["remove"] == [0, 3]


def test_a_control_is_judged_by_its_mean():
    assert Control(criterion="random", accuracies=(0.2, 0.4, 0.9)).mean == pytest.approx(0.5)


def test_defaults_are_not_shared_between_values():
    first, second = (Architecture(kind="builtin", name="digits") for _ in range(2))
    assert first.options == {}
    assert first.options is not second.options
    assert Preprocessing(input_shape=(3, 8, 8)).resize is None
    empty = Scores(criterion="l1", higher="keep", settings={}, layers={}, samples=0, model="m")
    assert empty.run == {}
