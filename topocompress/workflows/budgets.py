"""What a try of the search for a budget reaches: a latency or a size in ONNX Runtime, or accuracy."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from topocompress.deploy.export import export_onnx
from topocompress.deploy.latency import compare_latency
from topocompress.deploy.measurement import Predictions
from topocompress.deploy.paired import paired
from topocompress.errors import PlanError
from topocompress.planning.confidence import upper_loss
from topocompress.planning.selection import Reached
from topocompress.types import PruningPlan
from topocompress.workflows.job import Job
from topocompress.workflows.sampling import check_judges, judges, no_accuracy

Judge = Callable[[PruningPlan], float | Reached]
Finish = Callable[[PruningPlan], nn.Module]
"""Removal, re-estimation and whatever else a finished network goes through."""

_RUNS = 40
_TURNS, _MOST_TURNS = 3, 9
"""How often a latency is taken, and how often where the limit lies among what was found."""


def judge_of(job: Job, name: str, limit: float, finish: Finish, folder: Path) -> tuple[Judge, int]:
    """What a budget is judged by, and on how many samples.

    Accuracy and metric are judged on samples of their own where there are enough, so that the held-out ones, which the
    report is about, take no part in the choice; else on these. Of accuracy it is what may be lost at most, with
    confidence, that must be within the budget. Speed and size do not depend on what a network has learned, only on its
    shape.

    Args:
        job: The model and its data.
        name: ``max_accuracy_drop``, ``max_metric_drop``, ``target_latency`` or ``target_size``.
        limit: The budget.
        finish: Makes the finished network of a plan.
        folder: For ONNX files.

    Raises:
        DataError: An accuracy drop without labels, or with too few of them to tell.
        PlanError: The original has no more than the size already.
    """
    if name == "max_metric_drop":
        return _metric_drop(job, finish), judges(job.data)
    if name == "max_accuracy_drop":
        return _accuracy_drop(job, limit, finish), judges(job.data)
    return (_latency(job, limit, finish, folder) if name == "target_latency" else _size(job, finish, folder, limit)), 0


def _said(job: Job, model: nn.Module) -> Predictions:
    with job.timed("search"):
        return job.passes.said(model, "judging")


def _accuracy_drop(job: Job, limit: float, finish: Finish) -> Judge:
    """Points of top-1 accuracy lost."""
    if not job.data.labelled:
        raise no_accuracy(job.data)
    check_judges(job.data, limit)
    before = _said(job, job.loaded.module)

    def lost(plan: PruningPlan) -> Reached:
        found = paired(before, _said(job, finish(plan)))
        if found is None:
            raise no_accuracy(job.data)
        only, gained, total = found
        return Reached(value=100 * (only - gained) / total, upper=100 * upper_loss(only, gained, total))

    return lost


def _metric_drop(job: Job, finish: Finish) -> Judge:
    """How much less the user's own metric is, in its unit."""
    metric = job.metric
    if metric is None:
        raise PlanError("--max-metric-drop is given without a metric", hint="Add --metric pkg.module:function.")

    def value(model: nn.Module) -> float:
        found = _said(job, model).metric
        return math.nan if found is None else found

    original = value(job.loaded.module)
    return lambda plan: original - value(finish(plan))


def _latency(job: Job, limit: float, finish: Finish, folder: Path) -> Judge:
    """Latency of one sample as a share of the original's, both timed in turn: the median of several such times."""
    sample = job.data.calibration[0][0][None].numpy()
    original = folder / "original.onnx"
    _export(job, job.loaded.module, original)

    def share(plan: PruningPlan) -> float:
        smaller = folder / "try.onnx"
        _export(job, finish(plan), smaller)
        found: list[float] = []
        with job.timed("search"):
            while len(found) < _TURNS or (len(found) < _MOST_TURNS and min(found) <= limit <= max(found)):
                (before,), (after,) = compare_latency((original, smaller), sample=sample, batch_sizes=(1,), runs=_RUNS)
                found.append(after.median_ms / before.median_ms)
        return statistics.median(found)

    return share


def _size(job: Job, finish: Finish, folder: Path, limit: float) -> Judge:
    """Bytes of the ONNX file."""

    def size(model: nn.Module) -> int:
        path = folder / "try.onnx"
        _export(job, model, path)
        return path.stat().st_size

    original = size(job.loaded.module)
    if original <= limit:
        raise PlanError(
            f"the original's ONNX file has {original / 1e6:.3g} MB, within --target-size {limit / 1e6:.3g}MB already",
            hint="Ask for less.",
        )
    return lambda plan: float(size(finish(plan)))


def _export(job: Job, model: nn.Module, path: Path) -> None:
    """Export without looking at how exact it is: a try may be cut down to where nothing sensible is computed."""
    images = torch.stack([job.data.calibration[index][0] for index in range(2)])
    with job.timed("search"):
        export_onnx(model, path, samples=images, tolerance=math.inf, opset=job.opset)
        job.describe_file(path, model)  # which takes room in the file
