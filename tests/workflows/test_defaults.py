"""What is taken where nothing is said."""

from pathlib import Path

import pytest

from tests.helpers.imagesets import write_images
from topocompress.criteria import L1
from topocompress.errors import DataError, PlanError
from topocompress.training.recipe import Recipe
from topocompress.workflows.defaults import JUDGES, check_teachable, criterion_for, judges_for, settled_rule
from topocompress.workflows.options import Recovery, Removal


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


@pytest.fixture
def flat(tmp_path):
    """A folder of images without classes."""
    write_images(tmp_path / "flat", 2)
    return str(tmp_path / "flat")


@pytest.mark.parametrize("rule", [{}, {"max_accuracy_drop": 1.0}])
def test_accuracy_without_labels_is_asked_back_before_anything_is_loaded(rule, flat):
    with pytest.raises(PlanError, match="has no class folders, so no labels") as refused:
        settled_rule(Removal(**rule), "model.pt", flat)
    assert f"prune model.pt --data {flat} --target-macs 0.5" in refused.value.hint
    with pytest.raises(PlanError, match="unlabelled=True leaves labels out"):
        settled_rule(Removal(**rule), "model.pt", "photos", unlabelled=True)
    assert settled_rule(Removal(max_metric_drop=0.1), "model.pt", flat)[1] == ""
    assert settled_rule(Removal(ratio=0.1), "model.pt", flat, unlabelled=True)[1] == ""


def test_fine_tuning_without_labels_is_refused_before_anything_is_loaded(flat):
    with pytest.raises(DataError, match=r"finetune= needs labelled images, and .*flat has no class folders"):
        check_teachable(Recovery(finetune=2), flat)
    for taught in (Recovery(), Recovery(finetune=Recipe(epochs=2, distill=0.5)), Recovery(finetune=2, loss="my:loss")):
        check_teachable(taught, flat)
    for data in (None, "digits", str(Path(flat).parent)):
        check_teachable(Recovery(finetune=2), data)


def test_a_rule_that_was_given_is_left_alone():
    for removal in (Removal(ratio=0.5), Removal(max_accuracy_drop=2.0)):
        assert settled_rule(removal, "model.pt", "photos") == (removal, "")
    assert settled_rule(Removal(target_macs=0.5), "model.pt", None)[1] == ""


@pytest.mark.parametrize("rule", [{}, {"max_accuracy_drop": 1.0}, {"max_metric_drop": 0.1}])
def test_what_cannot_be_judged_is_asked_back_with_lines_to_copy(rule):
    with pytest.raises(PlanError, match="no data= is given") as refused:
        settled_rule(Removal(**rule), "my model.pt", None)
    assert "prune 'my model.pt' target_macs=0.5" in str(refused.value)
