import math

import pytest

from tests.helpers.synthetic import chain, layer, scores
from topocompress.errors import PlanError
from topocompress.planning.plan import make_plan, predict_macs, removal_counts
from topocompress.planning.rules import Limits, check_rule, check_samples
from topocompress.types import LayerCost

COST = {"conv": LayerCost(macs=1000, outputs=10, inputs=3), "next": LayerCost(macs=2000, outputs=5, inputs=10)}
TEN = scores({"conv": layer([10, 20, 30, 40, 50, 60, 70, 80, 90, 100])})


def ten(**rule):
    limits = Limits(**{"round_to": 1, **rule.pop("limits", {})})
    return make_plan(rule.pop("scores", TEN), [chain(10)], COST, limits=limits, **rule)


# --- by hand ---


def test_a_threshold_removes_what_lies_above_it():
    plan = ten(max_betti=70)
    assert plan.groups[0].remove == (7, 8, 9)
    assert plan.groups[0].above == 3
    assert (plan.criterion, plan.model, plan.removed) == ("betti", "sha256:0", 3)
    assert plan.rule == {"max_betti": 70, "min_channels": 1, "max_ratio": 0.5, "round_to": 1}
    assert (plan.macs_before, plan.macs_after) == (3000, 700 + 1400)


def test_the_ceiling_is_half_by_default_and_dead_channels_go_on_top_of_it():
    assert ten(max_betti=10).groups[0].remove == (5, 6, 7, 8, 9)
    dead = scores({"conv": layer(TEN.layers["conv"].values, dead=[0, 3])})
    plan = ten(max_betti=25, scores=dead)
    assert plan.groups[0].remove == (0, 3, 5, 6, 7, 8, 9)
    assert plan.groups[0].dead == (0, 3)
    assert plan.groups[0].above == 8 + 1  # eight above 25, and the dead one below
    assert ten(max_betti=10, limits={"max_ratio": 0.2}).groups[0].remove == (8, 9)


def test_floor_and_alignment_keep_more():
    assert ten(max_betti=10, limits={"min_channels": 8}).groups[0].remove == (8, 9)
    assert ten(max_betti=40, limits={"round_to": 4}).groups[0].remove == (8, 9)  # 4 would stay: 8 do
    assert ten(max_betti=40).removed == 5


def test_dead_channels_go_even_where_nothing_lies_above_the_threshold():
    plan = ten(max_betti=500, scores=scores({"conv": layer(TEN.layers["conv"].values, dead=[1])}))
    assert plan.groups[0].remove == plan.groups[0].dead == (1,)


def test_a_ratio_removes_that_share_of_each_group():
    plan = ten(ratio=0.3)
    assert plan.groups[0].remove == (7, 8, 9)
    assert plan.groups[0].above == 3
    assert plan.rule == {"ratio": 0.3, "min_channels": 1, "max_ratio": None, "round_to": 1}
    assert ten(ratio=0.3, limits={"round_to": 4}).groups[0].kept == 8  # 7 is nearer to 8 than to 4
    assert ten(ratio=0.5, limits={"round_to": 4}).groups[0].kept == 4
    assert ten(ratio=0.9).groups[0].kept == 1
    assert ten(ratio=0.9, limits={"max_ratio": 0.4}).groups[0].kept == 6


def test_a_keep_criterion_removes_the_lowest():
    kept = scores(TEN.layers, criterion="l1", higher="keep", samples=0)
    assert ten(ratio=0.3, scores=kept).groups[0].remove == (0, 1, 2)


def test_a_macs_target_removes_as_little_as_reaches_it():
    plan = ten(target_macs=0.7)
    assert plan.groups[0].remove == (7, 8, 9)
    assert plan.macs_after == 2100  # exactly the target; with one channel more it would be 2400
    assert ten(target_macs=0.71).removed == 3
    assert ten(target_macs=0.69).removed == 4


def test_units_of_several_channels_go_whole():
    plan = make_plan(TEN, [chain(10, size=2)], COST, ratio=0.4, limits=Limits(round_to=1))
    assert plan.groups[0].remove == (3, 4, 8, 9)  # units (4, 9) and (3, 8)


def test_groups_that_cannot_be_pruned_stay_and_say_why():
    free = chain(10)
    others = [
        chain(10, root="out", protected="feeds the model's output"),
        chain(10, root="unscored"),
        chain(4, root="whole", units=((0, 1, 2, 3),), filters={"conv": ((0, 1, 2, 3),)}, readers={}),
    ]
    plan = make_plan(TEN, [others[0], free, *others[1:]], COST, ratio=0.3, limits=Limits(round_to=1))
    assert [entry.root for entry in plan.groups] == ["out", "conv", "unscored", "whole"]
    assert [len(entry.remove) for entry in plan.groups] == [0, 3, 0, 0]
    assert [entry.protected for entry in plan.groups] == [
        "feeds the model's output",
        "",
        "not scored",
        "its channels can only be removed all together",
    ]


def test_macs_shrink_with_outputs_and_inputs_but_not_with_inputs_of_a_depthwise_layer():
    costs = {**COST, "deep": LayerCost(macs=90, outputs=10, inputs=0), "": LayerCost(macs=7, outputs=0, inputs=0)}
    units = tuple((c,) for c in range(10))
    group = chain(10, filters={"conv": units, "deep": units}, readers={"next": (1,) * 10, "deep": (1,) * 10})
    assert predict_macs(costs, [group], {}) == 1000 + 2000 + 90 + 7
    assert predict_macs(costs, [group], {"conv": [0, 1]}) == 800 + 1600 + 72 + 7


def test_how_many_filters_thresholds_would_remove():
    found = {"a": layer([1, 2, 3]), "b": layer([3, 3])}
    assert removal_counts(scores(found), [0, 2, 3]) == {"a": [3, 1, 0], "b": [2, 2, 0]}
    assert removal_counts(scores(found, higher="keep"), [0, 2, 4]) == {"a": [0, 1, 3], "b": [0, 0, 2]}


# --- what cannot be planned ---


@pytest.mark.parametrize(
    ("rule", "texts"),
    [
        ({}, ["give exactly one of --max-betti, --ratio and --target-macs", "--max-betti 300"]),
        ({"max_betti": 300, "ratio": 0.3}, ["exactly one"]),
        ({"max_betti": 3, "ratio": 0.3, "target_macs": 0.3}, ["exactly one"]),
        ({"ratio": 0.0}, ["--ratio 0 must lie between 0 and 1", "--ratio 0.5"]),
        ({"ratio": 1.0}, ["--ratio 1 must"]),
        ({"ratio": 50}, ["--ratio 50 must"]),
        ({"ratio": math.nan}, ["--ratio nan must"]),
        ({"target_macs": -0.5}, ["--target-macs -0.5 must lie between 0 and 1", "--target-macs 0.5"]),
        ({"target_macs": 0.0}, ["--target-macs 0 must"]),
        ({"max_betti": -1}, ["--max-betti -1 must be 0 or more"]),
        ({"max_betti": math.inf}, ["--max-betti inf"]),
        ({"max_betti": math.nan}, ["--max-betti nan"]),
        ({"max_betti": 95}, []),
        ({"max_betti": 100}, ["removes nothing", "'betti'", "above 100 (highest 100)", "--max-betti 91 would remove"]),
        ({"max_betti": 9}, ["every one of the 10 channels scores above 9 (lowest 10)", "everything", "--max-betti 91"]),
        ({"max_betti": 1000}, ["1000 calibration samples", "above 1000", "--samples"]),
        (
            {"max_betti": 95, "limits": {"min_channels": 10}},
            [
                "removes nothing: 1 channels score above 95, but --min-channels 10, --max-ratio 0.5, --round-to 1 keep "
                "them all: conv (1)",
            ],
        ),
        (
            {"ratio": 0.1, "limits": {"round_to": 10}},
            [
                "removes nothing: within --min-channels 1, --round-to 10 no group can lose so small a share: "
                "conv (10 channels)",
                "--round-to 1.",
            ],
        ),
        ({"target_macs": 0.05}, ["--target-macs 0.05 is out of reach", "0.100 of the MACs stay"]),
        ({"target_macs": 0.4, "limits": {"max_ratio": 0.5}}, ["out of reach", "0.500", "--max-ratio"]),
    ],
)
def test_each_refusal_says_why_and_what_next(rule, texts):
    if not texts:
        assert ten(**rule).removed == 1
        return
    with pytest.raises(PlanError) as caught:
        ten(**rule)
    for text in texts:
        assert text in f"{caught.value.what}\n{caught.value.hint}"
    assert caught.value.hint


def test_the_proposed_thresholds_work():
    for bad in (100, 9):
        with pytest.raises(PlanError) as caught:
            ten(max_betti=bad)
        assert ten(max_betti=float(caught.value.hint.split()[1])).removed == 1


def test_a_threshold_needs_a_criterion_whose_high_scores_mean_remove():
    kept = scores(TEN.layers, criterion="l1", higher="keep")
    with pytest.raises(PlanError, match="high scores mean remove; 'l1' is not one") as caught:
        ten(max_betti=50, scores=kept)
    assert "--ratio" in caught.value.hint
    assert check_rule("l1", "keep", ratio=0.5) == {"ratio": 0.5}
    assert check_rule("betti", "remove", max_betti=0) == {"max_betti": 0}


def test_samples_must_exceed_the_threshold_only_where_it_is_the_rule():
    check_samples(301, 300)
    check_samples(2, None)
    with pytest.raises(PlanError, match="300 calibration samples cannot give a Betti number above 300"):
        check_samples(300, 300)


def test_a_model_of_which_nothing_can_be_pruned_says_every_reason_once_with_its_layers():
    groups = [
        chain(3, root="fc", protected="feeds the model's output"),
        *(chain(3, root=f"mlp.{n}", protected="read by an attention layer") for n in range(5)),
        chain(3, root="stem", protected="ignored: stem"),
        chain(3, root="a"),
    ]
    with pytest.raises(PlanError) as caught:
        make_plan(TEN, groups, {}, ratio=0.5)
    assert caught.value.what == (
        "nothing in this model can be pruned: every group of channels stays whole (feeds the model's output: fc; read "
        "by an attention layer: mlp.0, mlp.1, mlp.2 and 2 more; ignored: stem; not scored: a)"
    )
    with pytest.raises(PlanError, match="nothing in this model can be pruned: it has no convolution"):
        make_plan(TEN, [], {}, ratio=0.5)


@pytest.mark.parametrize(
    "rule",
    [
        {"max_betti": 100},
        {"max_betti": 95, "limits": Limits(min_channels=10)},
        {"ratio": 0.1, "limits": Limits(round_to=10)},
        {"target_macs": 0.05},
    ],
)
def test_where_limits_leave_nothing_to_remove_the_layers_kept_anyway_are_named_too(rule):
    groups = [chain(10), chain(3, root="fc", protected="feeds the model's output"), chain(3, root="a")]
    with pytest.raises(PlanError) as caught:
        make_plan(TEN, groups, COST, **rule)
    assert caught.value.what.endswith("; besides, these stay whole: feeds the model's output: fc; not scored: a")


def test_every_coupled_layer_has_its_widths_before_and_after():
    units = tuple((c,) for c in range(10))
    twice = tuple((2 * c, 2 * c + 1) for c in range(10))  # a depthwise layer with two filters per channel
    free = chain(10, filters={"conv": units, "deep": twice}, readers={"next": (4,) * 10}, coupled=("conv", "bn"))
    head = chain(3, root="fc", protected="feeds the model's output", readers={})
    plan = make_plan(TEN, [free, head], COST, ratio=0.3, limits=Limits(round_to=1))
    assert plan.groups[0].filters == {"conv": (10, 7), "deep": (20, 14)}
    assert plan.groups[0].readers == {"next": (40, 28)}
    assert plan.groups[0].coupled == ("conv", "bn")
    assert plan.groups[1].filters == {"fc": (3, 3)}
    assert plan.groups[1].readers == {}


def test_widths_count_channels_not_units():
    plan = make_plan(TEN, [chain(10, size=2)], COST, ratio=0.4, limits=Limits(round_to=1))
    assert (plan.groups[0].filters, plan.groups[0].readers) == ({"conv": (10, 6)}, {"next": (10, 6)})
