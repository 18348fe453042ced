"""The whole job from Python, on a module of the caller's own."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from tests.helpers.tiny_nets import tiny_detector
from topocompress import Betti, compress, load
from topocompress.data.loading import ONE_LABEL, Data
from topocompress.deploy.paired import Paired
from topocompress.errors import DataError, ExportError, OutputError, PlanError
from topocompress.models.loading import fingerprint, load_model
from topocompress.planning.confidence import paired_error
from topocompress.reporting.page import to_html
from topocompress.workflows import controls


def unlabelled(count: int = 40) -> Data:
    images = torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    samples = TensorDataset(images, torch.full((count,), -1))
    return Data(
        calibration=samples,
        train=None,
        evaluation=samples,
        labelled=False,
        classes=(),
        source="made up",
        note="",
        skipped=(),
        fingerprint="sha256:0",
    )


def numpy_state() -> list[int]:
    return list(np.random.get_state()[1])  # noqa: NPY002 - the global state is what is tested


def test_a_module_of_ones_own_is_left_as_it_was(digits, tmp_path):
    torch.manual_seed(0)
    model = load_model("digits").module.train()
    model.stem[1].eval()
    model.stem[0].weight.requires_grad_(False)
    states = (torch.get_rng_state(), numpy_state(), random.getstate())
    modes = [module.training for module in model.modules()]
    before = fingerprint(model)

    result = compress(model, digits, ratio=0.25, criterion="l1", finetune=1, out=tmp_path / "run")

    assert fingerprint(model) == before == result.plan.model
    assert [module.training for module in model.modules()] == modes
    assert not model.stem[0].weight.requires_grad
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert numpy_state() == states[1]
    assert random.getstate() == states[2]
    assert result.model.stem[0].out_channels == 24
    description = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert description["architecture"]["kind"] == "object"
    assert description["classes"] == [str(digit) for digit in range(10)]
    assert (tmp_path / "run" / "report.html").read_text(encoding="utf-8") == to_html(result.report)
    units = result.report.plan["groups"][0]["units"]
    assert (units["layers"], len(units["scores"]), len(units["removed"])) == (["stem.0"], 32, 8)


def test_the_report_counts_what_was_done(digits):
    result = compress("digits", digits, ratio=0.25, criterion="l1", finetune=1, controls=False)
    report = result.report
    assert report is not None
    assert report.before.parameters > report.after.parameters == sum(p.numel() for p in result.model.parameters())
    assert report.after.macs == result.plan.macs_after
    assert report.before.agreement == 1.0
    assert report.before.accuracy is not None
    assert report.before.accuracy > 0.9
    assert report.controls == ()
    assert [epoch["epoch"] for epoch in report.finetune["history"]] == [0, 1]
    assert {"score", "remove", "finetune", "export", "measure"} <= set(report.environment["seconds"])


def test_nothing_is_written_without_a_place(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    compress("digits", digits, ratio=0.25, criterion="l1", controls=False)
    assert not list(tmp_path.iterdir())


def test_a_dry_run_stops_after_the_plan(digits, tmp_path):
    result = compress("digits", digits, ratio=0.25, criterion="l1", out=tmp_path / "run", dry_run=True)
    assert result.report is None
    assert result.plan.removed > 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("epochs", "reconstruct", "alone"), [(0, False, 0), (1, False, 1000), (0, True, 3), (1, True, 3)]
)
def test_a_criterion_knows_what_follows(digits, epochs, reconstruct, alone):
    how = {"finetune": epochs, "reconstruct": reconstruct, "dry_run": True}
    result = compress("digits", digits, ratio=0.25, criterion="persistence+looks=1", **how)

    assert result.scores.settings["alone"] == alone


@pytest.mark.parametrize(("apart", "draws"), [((0, 0, 400), 3), ((200, 0, 10_000), 3), ((9, 9, 100), 1), (None, 3)])
def test_chance_is_drawn_once_where_more_draws_would_tell_nothing(digits, monkeypatch, apart, draws):
    monkeypatch.setattr(controls, "paired", lambda ours, drawn: apart and Paired(*apart))
    random, *others = compress("digits", digits, ratio=0.25, criterion="l1").report.controls
    assert len(random.accuracies) == draws
    assert random.drawn_once == (draws == 1)
    assert random.error == (None if apart is None else paired_error(*apart))
    assert not others


def test_controls_remove_as_much_and_depend_on_the_seed_alone(digits):
    first, second = (
        compress("digits", digits, ratio=0.5, criterion=Betti(scale="quantile:0.05"), seed=seed).report
        for seed in (0, 0)
    )
    assert first is not None
    assert second is not None
    assert first.controls == second.controls
    assert [control.criterion for control in first.controls] == ["random", "l1"]
    assert len(set(first.controls[0].accuracies)) > 1


def test_without_labels_there_is_agreement_only():
    report = compress(load_model("digits").module, unlabelled(), ratio=0.25, criterion="l1").report
    assert report is not None
    assert report.after.accuracy is None
    assert report.after.agreement is not None
    assert report.controls == ()
    assert report.finetune == {}


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"ratio": 0.5, "finetune": 1}, DataError, "labelled images"),
        ({}, PlanError, "exactly one"),
        ({"max_betti": 300}, PlanError, "40 calibration samples"),
        ({"max_betti": 3, "criterion": "l1"}, PlanError, "'l1' is not one"),
    ],
)
def test_what_cannot_work_is_refused(options, error, text):
    with pytest.raises(error, match=text):
        compress("digits", unlabelled(), **options)


def test_a_taken_place_is_refused_before_any_work(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").touch()
    with pytest.raises(OutputError, match="already exists"):
        compress("no such model", ratio=0.5, out=tmp_path / "run")


def test_a_module_needs_loaded_data():
    with pytest.raises(DataError, match="needs loaded data"):
        compress(nn.Conv2d(1, 2, 1), "digits", ratio=0.5, criterion="l1")


def test_more_classes_than_outputs_are_refused(digits):
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    with pytest.raises(DataError, match="10 classes"):
        compress(model, digits, ratio=0.5)


def one_label_per_image(side: int) -> Data:
    images = torch.rand(4, 3, side, side, generator=torch.Generator().manual_seed(0))
    samples = TensorDataset(images, torch.tensor([0, 1, 0, 1]))
    return replace(unlabelled(), calibration=samples, evaluation=samples, labelled=True, classes=("a", "b"))


def test_a_detector_is_compared_by_its_boxes_whatever_the_labels(tmp_path):
    model = tiny_detector("retinanet")
    result = compress(model, one_label_per_image(64), ratio=0.25, criterion="l1", out=tmp_path / "run")
    report = result.report
    assert report.before.agreement == 1.0
    assert report.before.accuracy is None
    assert [latency.batch for latency in report.after.latency] == [1]  # the file takes one image at a time
    assert ONE_LABEL in report.warnings
    assert report.controls == ()
    assert result.model.backbone[0].out_channels == 6


def test_an_opset_that_detectors_do_not_have_is_refused_before_anything_is_scored(tmp_path):
    steps = []
    with pytest.raises(ExportError, match=r"opset=21 cannot be written for a detector"):
        compress(
            tiny_detector("retinanet"),
            one_label_per_image(64),
            ratio=0.25,
            criterion="l1",
            opset=21,
            out=tmp_path / "run",
            progress=lambda step, done, total: steps.append(step),
        )
    assert not any("scor" in step for step in steps)
    assert not list(tmp_path.iterdir())


def test_a_segmentation_network_is_compared_pixel_by_pixel_whatever_the_labels():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1), nn.Softmax(1))
    report = compress(model, one_label_per_image(16), ratio=0.25, criterion="betti").report
    assert report.before.accuracy is None
    assert 0.0 <= report.after.agreement <= 1.0
    assert ONE_LABEL in report.warnings


@pytest.mark.usefixtures("unexported")
def test_the_same_seed_gives_the_same_description_and_weights_to_the_last_byte(digits, tmp_path):
    for name in ("one", "two"):
        compress("digits", digits, ratio=0.25, criterion="l1", finetune=1, controls=False, out=tmp_path / name)
    for file in ("plan.json", "model.safetensors", "model.onnx"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    said = [(tmp_path / name / "report.json").read_bytes() for name in ("one", "two")]
    assert said[0] != said[1]  # times
    (tmp_path / "one" / "report.json").write_bytes(said[1])
    assert fingerprint(load(tmp_path / "one")) == fingerprint(load(tmp_path / "two"))
