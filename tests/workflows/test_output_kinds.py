"""Whole jobs on networks whose outputs are no scores of classes: what is compared, and what the report says."""

import json
import re
from dataclasses import dataclass, replace

import onnx
import pytest
import torch
from torch.utils.data import TensorDataset

from tests.helpers.imagesets import write_images
from tests.helpers.output_kinds import CLASSIFIERS, KINDS, Kind, images, made, unlabelled
from topocompress import compress
from topocompress.criteria import L1
from topocompress.data.loading import NO_CLASSES
from topocompress.deploy.export import export_onnx
from topocompress.errors import DataError
from topocompress.models.loading import LoadedModel
from topocompress.reporting.page import to_html
from topocompress.reporting.wording import stage_lines
from topocompress.training.finetuning import finetune
from topocompress.training.recipe import Recipe
from topocompress.types import Architecture, Preprocessing
from topocompress.workflows.compare import compare
from topocompress.workflows.job import open_job
from topocompress.workflows.options import Recovery, Removal, Scoring
from topocompress.workflows.samples import open_data
from topocompress.workflows.sweep import recommendation, sweep


def labelled(classes=("a", "b")):
    part = TensorDataset(images(32), torch.arange(32) % 2)
    return replace(unlabelled(), calibration=part, evaluation=part, train=part, labelled=True, classes=classes)


def loaded(kind):
    preprocessing = Preprocessing(input_shape=(3, 16, 16))
    architecture = Architecture(kind="object", name="tests:kind")
    return LoadedModel(module=made(KINDS[kind]), architecture=architecture, preprocessing=preprocessing, source="kind")


@pytest.mark.parametrize("kind", ["large offset", "yolo", "detr", "crnn", "dataclass"])
@pytest.mark.usefixtures("unexported")
def test_the_report_of_a_network_without_classes_says_what_was_compared(kind):
    report = compress(made(KINDS[kind]), unlabelled(), ratio=0.5, criterion="l1").report
    assert report.data["measure"] == "explained_variation"
    assert report.removed["explained_variation"] < 0.8
    assert report.removed["explained_variation_repaired"] > report.removed["explained_variation"]
    lines = "\n".join(stage_lines(report))
    assert "Outputs are compared by explained variation (R²)" in lines
    assert "After removal: explained variation " in lines
    assert "agreement" not in lines + re.sub("<script.*?</script>", "", to_html(report), flags=re.DOTALL)


def test_all_of_it_is_measured_exported_and_written(tmp_path):
    out = tmp_path / "run"
    compress(made(KINDS["detr"]), unlabelled(), ratio=0.5, criterion="l1", out=out, quantize="int8")
    found = json.loads((out / "report.json").read_text())
    before, after = found["before"], found["after"]
    assert (before["explained_variation"], before["outputs"]) == (1.0, {"logits": 1.0, "boxes": 1.0})
    assert after["agreement"] is None
    assert after["explained_variation"] == min(after["outputs"].values()) < 1.0
    assert set(found["quantized"]["measurement"]["outputs"]) == {"logits", "boxes"}
    assert "explained variation" in found["quantized"]["message"]
    assert found["export"]["top1_agreement"] is None
    for name in ("report.md", "report.html"):
        text = re.sub("<script.*?</script>", "", (out / name).read_text(), flags=re.DOTALL)
        assert "Explained variation of the outputs" in text
        assert "... of logits" in text
        assert "top-1" not in text
    assert "greement" not in (out / "report.md").read_text()


@pytest.mark.usefixtures("unexported")
def test_classifiers_say_why_they_are_taken_for_such():
    report = compress(made(CLASSIFIERS["classes"]), unlabelled(), ratio=0.5, criterion="l1").report
    assert report.data["measure"] == "agreement"
    assert 0 <= report.removed["agreement"] <= 1
    assert "explained_variation" not in report.removed
    assert any("5 classes (assumed: they come from a linear" in line for line in stage_lines(report))


@pytest.mark.usefixtures("unexported")
def test_labels_that_do_not_fit_are_set_aside_and_that_is_said():
    report = compress(made(KINDS["detr"]), labelled(), ratio=0.5, criterion="l1").report
    assert report.data["labelled"] is False
    assert NO_CLASSES in report.warnings
    assert report.controls == ()


def test_a_budget_of_accuracy_is_refused_before_the_work():
    def no_work(*_):
        raise AssertionError

    with pytest.raises(DataError, match="needs labels to measure accuracy by; labels cannot be held"):
        compress(made(KINDS["detr"]), labelled(), max_accuracy_drop=1, criterion="l1", progress=no_work)


@pytest.mark.parametrize("kind", ["binary", "detr", "crnn"])
@pytest.mark.usefixtures("unexported")
def test_the_original_teaches_outputs_that_are_no_classes(kind):
    recipe = Recipe(epochs=8, distill=1.0, batch_size=8, lr=0.02)
    result = compress(made(KINDS[kind]), unlabelled(), ratio=0.25, criterion="l1", finetune=recipe, reconstruct=False)
    history = result.report.finetune["history"]
    assert result.report.finetune["measure"] == "explained_variation"
    assert result.report.finetune["best_epoch"] > 0
    assert min(epoch["validation_loss"] for epoch in history) < 0.9 * history[0]["validation_loss"]
    assert result.report.after.explained_variation > result.report.removed["explained_variation"]


@pytest.mark.usefixtures("unexported")
def test_a_constant_network_has_nothing_to_compare_and_that_is_said():
    model = made(KINDS["binary"])
    with torch.no_grad():
        model.heads[0].weight.zero_()
    report = compress(model, unlabelled(), ratio=0.5, criterion="l1").report
    assert any("there is no variation to explain" in warning for warning in report.warnings)


def test_a_comparison_and_a_sweep_judge_by_the_same_measure():
    found = compare(loaded("yolo"), labelled(), criteria=["l1", "random"], ratios=[0.5], samples=8, seeds=2)
    assert found.measure == "explained_variation"
    assert found.original == 1.0
    assert "explained variation (R²)" in found.compared_by
    assert all(0 <= cell.final < 1 for cell in found.cells)
    removal, scoring = Removal(round_to=1), Scoring(criterion=L1())
    curve = sweep(loaded("detr"), labelled(), (0.6,), removal=removal, scoring=scoring)
    assert curve.measure == "explained_variation"
    assert curve.points[0].quality == 1.0
    assert "explained variation" in recommendation(curve)


@pytest.mark.usefixtures("unexported")
def test_a_criterion_that_watches_outputs_finds_the_axis_of_the_samples():
    model, data = made(KINDS["crnn"]), unlabelled()
    swapped = Kind(lambda x: x.mean(2).permute(0, 2, 1).log_softmax(2), 7, dense=True)
    swapped.load_state_dict(model.state_dict())
    found = [compress(each, data, ratio=0.5, criterion="persistence").plan for each in (model, swapped)]
    assert [group.remove for group in found[0].groups] == [group.remove for group in found[1].groups]


@pytest.mark.parametrize("criterion", ["l1", "taylor"])
@pytest.mark.parametrize("form", [lambda x: x, lambda x: x[:, 0], torch.sigmoid])
@pytest.mark.usefixtures("unexported")
def test_a_single_score_with_labels_of_0_and_1_is_that_of_two_classes(form, criterion):
    model = made(lambda: Kind(form, 1))
    with torch.no_grad():
        scores = model(images(32)).flatten()
    truth = (scores > (0.5 if form is torch.sigmoid else 0)).long()
    truth[:3] = 1 - truth[:3]
    part = TensorDataset(images(32), truth)
    data = replace(unlabelled(), calibration=part, evaluation=part, train=part, labelled=True, classes=("a", "b"))
    recipe = Recipe(epochs=6, batch_size=8, lr=0.01)
    report = compress(model, data, ratio=0.25, criterion=criterion, finetune=recipe).report
    assert report.before.accuracy == 29 / 32
    assert report.finetune["measure"] == "accuracy"
    losses = [epoch["loss"] for epoch in report.finetune["history"][1:]]
    assert losses[-1] < losses[0]
    assert "taken for a binary classifier" in report.data["compared_by"]


@pytest.mark.usefixtures("unexported")
def test_labels_choose_among_several_outputs():
    model = made(lambda: Kind(lambda maps, scores: (maps, scores.mean((2, 3))), 8, 5, dense=True))
    with torch.no_grad():
        part = TensorDataset(images(32), model(images(32))[1].argmax(1))
    data = replace(unlabelled(), calibration=part, evaluation=part, train=part, labelled=True, classes=tuple("abcde"))
    report = compress(model, data, ratio=0.25, criterion="taylor", finetune=1).report
    assert report.before.accuracy == 1.0
    assert "not compared: output 0" in report.data["compared_by"]


class Odd:
    """What no exporter knows."""


@dataclass
class Bag:
    """An output as packages of others have it."""

    logits: object
    kind: str = "net"
    scale: float = 2.0
    loss: object = None


@pytest.mark.parametrize(
    "form",
    [
        lambda x: (x, None, 1.5),
        lambda x: {"logits": x, "name": "net", "odd": Odd()},
        Bag,
        lambda x: {"a": [x, (None, "text")]},
        lambda x: (x, x.mean()),
    ],
)
def test_outputs_with_more_than_tensors_are_pruned_and_exported(form):
    report = compress(made(lambda: Kind(form, 5)), unlabelled(), ratio=0.5, criterion="persistence").report
    assert report.data["measure"] == "agreement"
    assert report.after.macs < 0.35 * report.before.macs
    assert report.export.max_rel < 1e-4


def test_outputs_in_a_file_have_the_names_that_the_network_gives_them(tmp_path):
    kind = Kind(lambda one, other: {"colour": one, "more": {"shape": other, "note": "text"}}, 5, 3)
    export_onnx(made(lambda: kind), tmp_path / "model.onnx", samples=images(4))
    assert [each.name for each in onnx.load(tmp_path / "model.onnx").graph.output] == ["colour", "more_shape"]


@pytest.mark.parametrize("held_out", [False, True])
def test_guards_see_how_far_outputs_are(held_out):
    job = open_job(made(KINDS["large offset"]), unlabelled(), scoring=Scoring(), recovery=Recovery(), seed=0)
    other = made(KINDS["large offset"])
    assert job.likeness(other, held_out=held_out) == 1.0
    with torch.no_grad():
        other.second.weight.mul_(0.5)
    near = job.likeness(other, held_out=held_out)
    with torch.no_grad():
        other.second.weight.mul_(-1)
    assert 1 > near > job.likeness(other, held_out=held_out)


def test_outputs_without_gradients_cannot_be_learned():
    model, recipe = made(CLASSIFIERS["class maps"]), Recipe(epochs=1, distill=1.0)
    with pytest.raises(DataError, match="whole numbers, which no gradient can follow"):
        finetune(model, unlabelled().calibration, recipe, teacher=model)


@pytest.mark.parametrize("kind", ["detr", "yolo"])
def test_folders_of_classes_do_for_networks_without_classes(kind, tmp_path):
    for name in ("cat", "dog"):
        write_images(tmp_path / name, 6)
    found, data = open_data(loaded(kind), f"imagefolder:{tmp_path}", samples=4, eval_samples=4)
    assert (data.labelled, data.note) == (False, NO_CLASSES)
    assert found.classes == ()
