"""What a try of the search for a budget reaches: a latency or a size in ONNX Runtime, or accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from topocompress.deploy.export import export_onnx
from topocompress.deploy.latency import compare_latency
from topocompress.deploy.measurement import evaluate
from topocompress.errors import PlanError
from topocompress.network.inference import sample_count
from topocompress.network.task import measured
from topocompress.types import PruningPlan
from topocompress.workflows.job import Job, no_accuracy

Judge = Callable[[PruningPlan], float]
Finish = Callable[[PruningPlan], nn.Module]
"""Removal, re-estimation and whatever else a finished network goes through."""

_RUNS = 40


def judge_of(job: Job, name: str, limit: float, finish: Finish, folder: Path) -> tuple[Judge, int]:
    """What a budget is judged by, and on how many samples.

    An accuracy drop is judged on the calibration samples, so that the held-out ones, which the report is about, take no
    part in the choice. Speed and size do not depend on what a network has learned, only on its shape.

    Args:
        job: The model and its data.
        name: ``max_accuracy_drop``, ``max_metric_drop``, ``target_latency`` or ``target_size``.
        limit: The budget.
        finish: Makes the finished network of a plan.
        folder: For ONNX files.

    Raises:
        DataError: An accuracy drop without labels.
        PlanError: The original has no more than the size already.
    """
    if name == "max_metric_drop":
        return _metric_drop(job, finish), sample_count(job.data.calibration)
    if name == "max_accuracy_drop":
        return _accuracy_drop(job, finish), sample_count(job.data.calibration)
    return (_latency(job, finish, folder) if name == "target_latency" else _size(job, finish, folder, limit)), 0


def _accuracy_drop(job: Job, finish: Finish) -> Judge:
    """Points of top-1 accuracy lost."""

    def accuracy(model: nn.Module) -> float:
        with job.timed("search"):
            found = evaluate(model, job.calibration, labelled=job.data.labelled, outputs=job.outputs).accuracy
        if found is None:
            raise no_accuracy(job.data)
        return found

    original = accuracy(job.loaded.module)
    return lambda plan: 100 * (original - accuracy(finish(plan)))


def _metric_drop(job: Job, finish: Finish) -> Judge:
    """How much less the user's own metric is, in its unit."""
    metric = job.metric
    if metric is None:
        raise PlanError("--max-metric-drop is given without a metric", hint="Add --metric pkg.module:function.")

    def value(model: nn.Module) -> float:
        with job.timed("search"):
            return measured(model, job.calibration, metric)

    original = value(job.loaded.module)
    return lambda plan: original - value(finish(plan))


def _latency(job: Job, finish: Finish, folder: Path) -> Judge:
    """Median latency of one sample as a share of the original's, both timed in turn."""
    sample = job.data.calibration[0][0][None].numpy()
    original = folder / "original.onnx"
    _export(job, job.loaded.module, original)

    def share(plan: PruningPlan) -> float:
        smaller = folder / "try.onnx"
        _export(job, finish(plan), smaller)
        with job.timed("search"):
            (before,), (after,) = compare_latency((original, smaller), sample=sample, batch_sizes=(1,), runs=_RUNS)
        return after.median_ms / before.median_ms

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
        export_onnx(model, path, samples=images, tolerance=math.inf)
