"""A metric and a loss of the user's own: in the report, in budgets, in comparisons, in fine-tuning."""

import json
import re

import pytest
import torch

from tests.helpers import own_task
from tests.helpers.commands import run
from topocompress import compress
from topocompress.errors import DataError, OptionError, PlanError, TrainingError
from topocompress.network.task import collated, judged_by, losses_of
from topocompress.reporting.wording import stage_lines
from topocompress.training.finetuning import finetune
from topocompress.training.recipe import Recipe
from topocompress.types import Point, Sweep
from topocompress.workflows.compare import compare
from topocompress.workflows.job import open_job
from topocompress.workflows.options import Recovery, Scoring
from topocompress.workflows.sweep import recommendation, sweep

RECIPE = Recipe(epochs=4, batch_size=8, lr=0.05)


def value(model, metric=own_task.iou):
    samples = own_task.data().evaluation
    with torch.no_grad():
        return float(metric([(model(samples.images), [samples[index][1] for index in range(len(samples))])]))


def test_a_metric_stands_in_the_report_and_a_loss_is_minimised(tmp_path):
    out = tmp_path / "run"
    options = {"metric": own_task.iou, "loss": own_task.loss, "finetune": RECIPE, "reconstruct": False}
    result = compress(own_task.network(), own_task.data(), ratio=0.5, criterion="l2", out=out, **options)
    report = result.report
    assert report.data["measure"] == "metric"
    assert report.data["metric"] == "iou"
    assert report.before.metric == 1.0
    assert report.after.metric == pytest.approx(value(result.model))
    assert report.removed["metric"] < report.after.metric
    assert {control.criterion for control in report.controls} == {"random", "l1"}
    losses = [epoch["loss"] for epoch in report.finetune["history"][1:]]
    assert losses[-1] < losses[0]
    assert report.finetune["measure"] == "metric"
    best = max(report.finetune["history"], key=lambda epoch: epoch["accuracy"])
    assert report.finetune["history"][report.finetune["best_epoch"]]["accuracy"] == best["accuracy"]
    assert f"After removal: iou {report.removed['metric']:.4g}" in "\n".join(stage_lines(report))
    for name in ("report.md", "report.html"):
        text = re.sub("<script.*?</script>", "", (out / name).read_text(), flags=re.DOTALL)
        assert f"{report.after.metric:.4g}" in text
        assert "iou" in text


@pytest.mark.usefixtures("unexported")
def test_where_less_is_better_the_negative_counts():
    report = compress(own_task.network(), own_task.data(), ratio=0.5, criterion="l1", metric=own_task.error).report
    assert report.data["metric"] == "neg_error"
    assert report.before.metric == 0.0
    assert report.after.metric < 0


@pytest.mark.usefixtures("unexported")
def test_a_budget_of_the_metric_is_kept():
    options = {"metric": "tests.helpers.own_task:iou", "criterion": "l2", "max_metric_drop": 0.2}
    report = compress(own_task.network(), own_task.data(), **options).report
    assert report.budget.option == "--max-metric-drop"
    met = [probe for probe in report.budget.probes if probe.met]
    assert met
    assert all(probe.value <= 0.2 for probe in met)
    assert report.budget.samples == report.data["samples"]["evaluation"]
    assert not report.budget.apart


def test_criteria_are_compared_by_the_metric(tmp_path):
    recovery, scoring = Recovery(), Scoring()
    job = open_job(own_task.network(), own_task.data(), scoring=scoring, recovery=recovery, seed=0)
    settings = {"criteria": ["l1", "random"], "ratios": [0.5], "samples": 10, "seeds": 2, "out": tmp_path}
    found = compare(job.loaded, job.data, metric=own_task.iou, loss=own_task.loss, finetune=RECIPE, **settings)
    assert found.measure == "iou"
    assert found.original == 1.0
    assert all(0 < cell.final < 1 for cell in found.cells)
    again = compare(job.loaded, job.data, metric=own_task.error, **settings)
    assert again.measure == "neg_error"
    assert all(cell.final < 0 for cell in again.cells)


def test_sizes_are_judged_by_the_metric(tmp_path):
    scoring, recovery = Scoring(criterion="l1"), Recovery(metric=own_task.error, reconstruct=False)
    job = open_job(own_task.network(), own_task.data(), scoring=scoring, recovery=recovery, seed=0)
    found = sweep(job.loaded, job.data, (0.5,), scoring=scoring, recovery=recovery, out=tmp_path)
    assert found.measure == "neg_error"
    assert found.points[0].quality == 0.0
    assert -1 < found.points[1].quality < 0
    assert "neg_error" in recommendation(found)


def test_of_a_metric_with_a_scale_of_its_own_percents_are_lost_and_not_points():
    def point(target, quality, latency):
        return Point(target=target, macs=target, latency=latency, quality=quality, file_bytes=1)

    points = point(1, 30.0, 1.0), point(0.5, 29.8, 0.5)
    found = Sweep(model="m", data="d", measure="psnr", criterion="l1", finetune=0, points=points)
    assert recommendation(found).startswith("The fastest within 1 % of psnr: --target-macs 0.5, 2.00× faster, 29.8")


def test_the_command_line_takes_both(tmp_path, monkeypatch, capsys):
    out, helper = tmp_path / "run", "tests.helpers.own_task:"
    words = ["prune", f"{helper}network", "--data", f"{helper}masks", "--ratio", "0.5", "--criterion", "l1"]
    words += ["--samples", "20", "--finetune", "1", "--metric", f"{helper}iou", "--loss", f"{helper}loss"]
    assert run(monkeypatch, *words, "--out", str(out)) == 0
    assert json.loads((out / "report.json").read_text())["after"]["metric"] > 0
    assert "iou" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "iou"}, "metric='iou' is not of the form pkg.module:function"),
        ({"metric": 3}, "a function of (outputs, targets)"),
        ({"loss": own_task.loss}, "there is none"),
        ({"loss": own_task.loss, "finetune": Recipe(epochs=1, distill=0.5)}, "two ways to fine-tune"),
        ({"max_metric_drop": 0.1, "ratio": None}, "without a metric"),
        ({"metric": "tests.helpers.own_task:nothing"}, "has no nothing"),
    ],
)
def test_what_cannot_be_is_refused_before_the_work(options, message):
    with pytest.raises((PlanError, DataError, OptionError), match=re.escape(message)):
        compress(own_task.network(), own_task.data(), **{"ratio": 0.5, "criterion": "l1", **options})


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (lambda _: float("nan"), "returned nan, which is no finite number"),
        (lambda _: "good", "returned 'good', which is no finite number"),
        (lambda _: torch.ones(2), "no finite number"),
        (lambda pairs: next(iter(pairs))[7], "failed: IndexError"),
    ],
)
def test_a_metric_without_a_number_is_refused(metric, message):
    with pytest.raises(DataError, match=re.escape(message)):
        judged_by(metric, iter([(1, 2)]))


@pytest.mark.parametrize(("good", "message"), [(0, "nan before the first epoch"), (1, "nan after epoch 1")])
def test_a_loss_that_is_no_number_on_validation_samples_is_refused(good, message):
    judged = []

    def loss(outputs, targets):
        if torch.is_grad_enabled():
            return own_task.loss(outputs, targets)
        judged.append(1)
        return own_task.loss(outputs, targets) + (0.0 if len(judged) <= good else float("nan"))

    data = own_task.data().train
    with pytest.raises(TrainingError, match=message):
        finetune(own_task.network(), data, Recipe(epochs=1, batch_size=24, lr=0.01), loss=loss)


def test_losses_are_one_number_or_one_for_each():
    outputs = torch.ones(3, requires_grad=True)
    assert losses_of(lambda out, _: out.mean(), outputs, None, 3).tolist() == [1, 1, 1]
    assert losses_of(lambda out, _: out * 2, outputs, None, 3).tolist() == [2, 2, 2]
    with pytest.raises(DataError, match="returned a float for 3 samples"):
        losses_of(lambda *_: 1.0, outputs, None, 3)
    with pytest.raises(DataError, match="gradients can follow"):
        losses_of(lambda out, _: out.detach(), outputs, None, 3)


def test_targets_of_one_shape_are_stacked_and_others_listed():
    image = torch.zeros(3, 2, 2)
    assert collated([(image, 1), (image, 2)])[1].tolist() == [1, 2]
    assert collated([(image, torch.zeros(2)), (image, torch.ones(2))])[1].shape == (2, 2)
    listed = [torch.zeros(2), torch.zeros(3)]
    assert collated([(image, each) for each in listed])[1] == listed
    assert collated([(image, {"a": 1}), (image, {"a": 2})])[1] == [{"a": 1}, {"a": 2}]
