from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import Subset

from tests.helpers.jobs import data, loaded
from tests.helpers.trained import held_out_part, trained
from topocompress.criteria import L1
from topocompress.data.loading import batches
from topocompress.deploy.measurement import evaluate
from topocompress.errors import DataError, PlanError
from topocompress.planning.confidence import upper_loss
from topocompress.surgery.removal import apply
from topocompress.types import Latency
from topocompress.workflows import budgets
from topocompress.workflows.budgets import judge_of
from topocompress.workflows.job import Job
from topocompress.workflows.options import Removal, Scoring
from topocompress.workflows.selecting import select


@pytest.fixture
def job():
    return Job(loaded=loaded(trained()), data=data(), removal=Removal(round_to=1), scoring=Scoring(criterion=L1()))


def halved(job):
    return select(job).plan({"ratio": 0.5})


@pytest.mark.parametrize("apart", [False, True])
def test_an_accuracy_drop_is_counted_in_points_with_a_bound_on_samples_that_take_no_part_in_pruning(job, apart):
    if apart:
        job.data = replace(job.data, judging=Subset(held_out_part(), range(0, len(held_out_part()), 2)))
    plan = halved(job)
    smaller = apply(job.loaded.module, plan, example=job.example)
    judge, samples = judge_of(job, "max_accuracy_drop", 5.0, lambda _: smaller, Path())
    judges = job.data.judging if apart else job.data.evaluation
    whole, left = (evaluate(model, batches(judges)) for model in (job.loaded.module, smaller))
    found = judge(plan)
    assert found.value == pytest.approx(100 * (whole.accuracy - left.accuracy))
    assert found.upper > found.value > 0
    right, still = whole.classes == whole.labels, left.classes == left.labels
    assert found.upper == pytest.approx(
        100 * upper_loss(int((right & ~still).sum()), int((still & ~right).sum()), len(whole.labels))
    )
    assert samples == len(judges)


def test_a_drop_that_so_few_samples_cannot_tell_from_none_is_refused_before_any_try(job):
    with pytest.raises(DataError, match=r"cannot tell whether .*0\.1.* points are lost: it takes 2703 at least"):
        judge_of(job, "max_accuracy_drop", 0.1, lambda _: pytest.fail("tried"), Path())


def test_an_accuracy_drop_needs_labels(job):
    job.data = data(labelled=False)
    with pytest.raises(DataError, match="max_accuracy_drop= needs labels"):
        judge_of(job, "max_accuracy_drop", 1.0, lambda _: job.loaded.module, Path())


def test_a_size_is_that_of_the_onnx_file(job, tmp_path):
    plan = halved(job)
    judge, samples = judge_of(job, "target_size", 10_000, lambda _: job.loaded.module, tmp_path)
    whole = judge(plan)
    assert whole == (tmp_path / "try.onnx").stat().st_size
    judge, _ = judge_of(job, "target_size", 10_000, lambda p: apply(trained(), p, example=job.example), tmp_path)
    assert judge(plan) < whole
    assert samples == 0


def test_a_size_that_the_original_has_is_refused(job, tmp_path):
    with pytest.raises(PlanError, match="within target_size=9000000 already"):
        judge_of(job, "target_size", 9e6, lambda _: job.loaded.module, tmp_path)


def test_a_latency_is_a_share_of_the_originals(job, tmp_path, monkeypatch):
    timed = []
    turns = iter([6.0, 1.0, 6.2, 5.9, 6.1, *[6.0] * 4])  # the second is a slip, on the other side of the limit

    def compare(paths, **settings):
        timed.append(([path.name for path in paths], settings["batch_sizes"]))
        return [(Latency(batch=1, median_ms=ms, p95_ms=ms, runs=1),) for ms in (8.0, next(turns))]

    monkeypatch.setattr(budgets, "compare_latency", compare)
    judge, samples = judge_of(job, "target_latency", 0.5, lambda _: job.loaded.module, tmp_path)
    assert judge(halved(job)) == 0.75
    assert samples == 0
    assert timed == [(["original.onnx", "try.onnx"], (1,))] * 9
    turns = iter([6.0, 6.4, 5.6])
    assert judge_of(job, "target_latency", 0.5, lambda _: job.loaded.module, tmp_path)[0](halved(job)) == 0.75
    assert next(turns, None) is None


def test_a_try_that_computes_nothing_sensible_is_timed_all_the_same(job, tmp_path):
    torch.manual_seed(0)
    noisy = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        noisy[1].weight.mul_(0)
        noisy[1].bias.mul_(0)
    judge, _ = judge_of(job, "target_latency", 0.5, lambda _: noisy, tmp_path)
    assert judge(halved(job)) > 0
