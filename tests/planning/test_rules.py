import pytest

from tests.helpers.processes import python
from topocompress.errors import PlanError, in_python
from topocompress.planning.rules import Limits, check_allocation, check_iterations, check_rule, check_samples


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({}, "exactly one"),
        ({"ratio": 0.5, "target_macs": 0.5}, "exactly one"),
        ({"ratio": 0.0}, "--ratio 0 must lie between 0 and 1"),
        ({"ratio": float("nan")}, "must lie between 0 and 1"),
        ({"target_macs": 1.0}, "--target-macs 1 must lie between 0 and 1"),
        ({"max_betti": -1.0}, "must be 0 or more"),
        ({"max_betti": float("inf")}, "must be 0 or more"),
        ({"max_accuracy_drop": 1.0, "ratio": 0.5}, "exactly one of --max-accuracy-drop and --ratio"),
        ({"max_accuracy_drop": -0.5}, "--max-accuracy-drop -0.5 must be points of accuracy, from 0 to 100"),
        ({"max_accuracy_drop": 100.0}, "from 0 to 100"),
        ({"target_latency": 1.2}, "--target-latency 1.2 must lie between 0 and 1"),
        ({"target_size": 2.0}, "--target-size of 2 bytes: no network is so small"),
        ({"ratio": 0.5, "target_macs": 0.5}, "; --ratio and --target-macs are given"),
        ({"target_size": -1.0}, "--target-size -1 must be 0 or more"),
    ],
)
def test_a_rule_that_cannot_be_used(rule, text):
    with pytest.raises(PlanError, match=in_python(text)):
        check_rule("betti", "remove", **rule)


def test_a_usable_rule_is_returned_by_name():
    assert check_rule("l1", "keep", ratio=0.25) == {"ratio": 0.25}
    assert check_rule("betti", "remove", max_betti=0) == {"max_betti": 0}


def test_a_threshold_needs_a_criterion_whose_high_scores_mean_remove():
    with pytest.raises(PlanError, match="'l1' is not one"):
        check_rule("l1", "keep", max_betti=300)


def test_samples_must_exceed_the_threshold():
    check_samples(301, 300)
    check_samples(2, None)
    with pytest.raises(PlanError, match="300 calibration samples cannot give a Betti number above 300"):
        check_samples(300, 300)


@pytest.mark.parametrize("limits", [{"min_channels": 0}, {"max_ratio": 0.0}, {"max_ratio": 1.0}, {"round_to": 0}])
def test_limits_out_of_range(limits):
    with pytest.raises(PlanError):
        Limits(**limits)


def test_neither_numpy_nor_torch_is_needed():
    code = "import sys, topocompress.planning.rules; sys.exit(bool({'numpy', 'torch'} & set(sys.modules)))"
    python("-c", code)


@pytest.mark.parametrize(
    ("allocation", "rule", "comparable", "text"),
    [
        ("globl", {}, None, "'globl' is unknown"),
        ("global", {"ratio": 0.5}, True, "needs a target, and ratio= is none"),
        ("global", {"max_betti": 5.0}, None, "needs a target, and max_betti= is none"),
        ("global", {"target_macs": 0.5}, False, "those of 'l1' have no common unit"),
    ],
)
def test_an_allocation_that_cannot_be(allocation, rule, comparable, text):
    with pytest.raises(PlanError, match=text):
        check_allocation(allocation, rule, comparable, "l1")
    check_allocation("global", {"target_macs": 0.5}, None, "l1")
    check_allocation("auto", {"ratio": 0.5}, False, "l1")


@pytest.mark.parametrize(
    ("iterations", "rule", "epochs", "text"),
    [
        (0, {"ratio": 0.5}, 1, "--iterations 0: at least one"),
        (2, {"ratio": 0.5}, 0, "no fine-tuning"),
        (2, {"max_accuracy_drop": 1.0}, 1, "tries several sizes"),
    ],
)
def test_iterations_that_cannot_be(iterations, rule, epochs, text):
    with pytest.raises(PlanError, match=in_python(text)):
        check_iterations(iterations, rule, epochs)


def test_one_round_needs_no_fine_tuning_and_several_work_with_a_target():
    check_iterations(1, {"max_accuracy_drop": 1.0}, 0)
    check_iterations(3, {"target_latency": 0.6}, 2)
