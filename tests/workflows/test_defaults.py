"""What is taken where nothing is said."""

import pytest

from topocompress.criteria import L1
from topocompress.errors import PlanError
from topocompress.workflows.defaults import JUDGES, criterion_for, judges_for, settled_rule
from topocompress.workflows.options import Removal


def test_a_threshold_on_betti_numbers_means_betti_and_every_other_rule_the_best_without_labels():
    assert criterion_for("auto", Removal(max_betti=300)) == "betti"
    assert criterion_for("auto", Removal(target_macs=0.5)) == criterion_for("auto", Removal()) == "persistence"
    assert criterion_for("l1", Removal(max_betti=300)) == "l1"
    own = L1()
    assert criterion_for(own, Removal(ratio=0.5)) is own


def test_only_a_budget_of_quality_needs_judges():
    assert judges_for(Removal(max_accuracy_drop=1.0)) == judges_for(Removal(max_metric_drop=0.1)) == JUDGES
    assert judges_for(Removal(target_latency=0.5)) == judges_for(Removal()) == 0


def test_without_a_rule_a_point_of_accuracy_may_go_where_that_can_be_measured():
    removal, said = settled_rule(Removal(linear=True), "model.pt", "photos")
    assert removal == Removal(linear=True, max_accuracy_drop=1.0)
    assert "--max-accuracy-drop 1 is taken" in said
    assert settled_rule(Removal(), "digits", None)[0].max_accuracy_drop == 1.0


def test_a_rule_that_was_given_is_left_alone():
    for removal in (Removal(ratio=0.5), Removal(max_accuracy_drop=2.0)):
        assert settled_rule(removal, "model.pt", "photos") == (removal, "")
    assert settled_rule(Removal(target_macs=0.5), "model.pt", None)[1] == ""


@pytest.mark.parametrize("rule", [{}, {"max_accuracy_drop": 1.0}, {"max_metric_drop": 0.1}])
def test_what_cannot_be_judged_is_asked_back_with_lines_to_copy(rule):
    with pytest.raises(PlanError, match="no data= is given") as refused:
        settled_rule(Removal(**rule), "my model.pt", None)
    assert "prune 'my model.pt' target_macs=0.5" in str(refused.value)
