"""The whole job: :func:`compress`. The only place where the steps are composed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import nn
from torch.utils.data import Dataset

from topocompress.criteria.base import CloudCriterion
from topocompress.criteria.registry import create
from topocompress.data.checks import paths_of as data_paths
from topocompress.data.loading import Data
from topocompress.deploy.opsets import check_opset
from topocompress.models.loading import LoadedModel
from topocompress.models.sources import paths_of as model_paths
from topocompress.network.detectors import is_detector
from topocompress.network.inference import sample_count
from topocompress.planning.rules import INT8, check_samples
from topocompress.runtime.arguments import checked
from topocompress.runtime.files import atomic_directory
from topocompress.runtime.outputs import Place, check_outputs
from topocompress.runtime.progress import Progress, silent
from topocompress.runtime.temporary import scratch_folder
from topocompress.training import processes
from topocompress.training.accelerator import team
from topocompress.types import PruningPlan, Report, Scores
from topocompress.workflows.account import report_on, save
from topocompress.workflows.choosing import choose
from topocompress.workflows.controls import left_after_removal, run_controls
from topocompress.workflows.defaults import criterion_for
from topocompress.workflows.delivery import deliver
from topocompress.workflows.job import Job, open_job
from topocompress.workflows.options import Options, Output, Recovery, Removal, Scoring, check, with_options
from topocompress.workflows.selecting import select
from topocompress.workflows.shrinking import shrink

_FILES = 4
"""Files of a run that may each be as large as the weights: these, and ONNX of the original, in 32 and in 8 bits.

One more where 16 bits are asked for."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What :func:`compress` returns.

    Attributes:
        model: The finished network, eval mode; the unchanged original after a dry run.
        plan: What was removed.
        scores: Why.
        report: What it cost; ``None`` after a dry run.
    """

    model: nn.Module
    plan: PruningPlan
    scores: Scores
    report: Report | None


@checked
@team()
def compress(
    model: LoadedModel | nn.Module | str | Path,
    data: Data | Dataset[Any] | str | None = None,
    *,
    removal: Removal | None = None,
    scoring: Scoring | None = None,
    recovery: Recovery | None = None,
    output: Output | None = None,
    seed: int = 0,
    cache: str | Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
    **options: Unpack[Options],
) -> Result:
    """Score, plan, remove, repair, fine-tune, export, measure and report.

    Args:
        model: Anything :func:`~topocompress.workflows.opening.open_model` takes, a loaded model, or your own module
            (then ``data`` is loaded, or a dataset). It is not changed.
        data: A data source as on the command line, a dataset of your own, loaded data, or ``None`` for photographs that
            stand in for images.
        removal: What to remove; exactly one rule must be given, here or among the options.
        scoring: How to score.
        recovery: How to recover.
        output: What to deliver.
        seed: Seed of everything random.
        cache: Folder where scores and, until the run is finished, epochs are kept; nowhere if ``None``.
        resume: Continue the scoring and fine-tuning that an interrupted run has left in the cache.
        progress: Called as ``progress(step, done, total)``.
        options: Any field of the four groups, such as ``max_betti=300`` or ``finetune=5``; it has priority.

    Raises:
        TypeError: An option is unknown.
        TopocompressError: Something given is not usable, or a result failed its check; the message says what to do.
    """
    removal, scoring, recovery, output = with_options(
        removal or Removal(), scoring or Scoring(), recovery or Recovery(), output or Output(), options
    )
    if output.out is not None and not output.dry_run:
        check_outputs([Place(output.out, "run", force=output.force)], inputs=_inputs(model, data, scoring))
    scoring = _with_instance(replace(scoring, criterion=criterion_for(scoring.criterion, removal)), data)
    check(removal, scoring, recovery, output)

    job = open_job(
        model,
        data,
        seed=seed,
        progress=progress,
        removal=removal,
        scoring=scoring,
        recovery=recovery,
        cache=cache,
        resume=resume,
    )
    if isinstance(scoring.criterion, CloudCriterion):
        check_samples(sample_count(job.data.calibration), job.removal.max_betti)  # as many as there are
    check_opset(output.opset, detector=is_detector(job.model))
    job.opset = output.opset
    with _directory(output, room=(_FILES + output.half) * _state_bytes(job.model)) as directory:
        return _result(job, output, directory)


def _result(job: Job, output: Output, directory: Path) -> Result:
    """Everything from the scores to the report, whose files go into ``directory``."""
    selection = select(job)
    choice = choose(job, selection)
    if output.dry_run:
        return Result(model=job.model, plan=choice.plan, scores=selection.scores, report=None)
    before = job.evaluated(job.model, "evaluating the original")
    shrunk = shrink(job, selection, choice)
    removed = left_after_removal(job, shrunk, before)
    if not processes.part():
        return Result(model=shrunk.model, plan=shrunk.plan, scores=selection.scores, report=None)
    after = job.evaluated(shrunk.model, "evaluating the result")
    controls = run_controls(job, shrunk, selection) if output.controls else ()
    delivery = deliver(
        job, directory, (job.model, before), (shrunk.model, after), int8=output.quantize == INT8, half=output.half
    )
    report = report_on(
        job,
        selection,
        choice,
        shrunk,
        before=before,
        removed=removed,
        controls=controls,
        delivery=delivery,
        command=output.command,
    )
    if output.out is not None:
        save(job, shrunk, report, directory)
    job.forget_checkpoints()
    return Result(model=shrunk.model, plan=shrunk.plan, scores=selection.scores, report=report)


def _inputs(
    model: LoadedModel | nn.Module | str | Path, data: Data | Dataset[Any] | str | None, scoring: Scoring
) -> list[Path]:
    """Files and folders that the job reads, as far as they are known."""
    samples = data.source if isinstance(data, Data) else None if isinstance(data, Dataset) else data
    classes = [Path(scoring.classes)] if isinstance(scoring.classes, str | Path) else []
    if isinstance(model, nn.Module):
        return [*data_paths(samples), *classes]
    return [
        *model_paths(model.source if isinstance(model, LoadedModel) else str(model)),
        *data_paths(samples),
        *classes,
    ]


def _state_bytes(model: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in model.state_dict().values() if isinstance(tensor, torch.Tensor))


def _with_instance(scoring: Scoring, data: Data | Dataset[Any] | str | None) -> Scoring:
    """The criterion as an instance, and as many samples as there are."""
    criterion = create(scoring.criterion) if isinstance(scoring.criterion, str) else scoring.criterion
    samples = scoring.samples
    if isinstance(data, Data) and data.threshold_samples is None:
        samples = sample_count(data.calibration)
    return replace(scoring, criterion=criterion, samples=samples)


@contextlib.contextmanager
def _directory(output: Output, *, room: int) -> Iterator[Path]:
    """Where files are written: the run directory, all of it or none, or one that nobody keeps.

    It is held from the start, so that another run into the same place is told before its work.
    """
    if output.out is not None and not output.dry_run and processes.is_main():
        check_outputs([Place(output.out, "run", force=output.force)], room=room)
        with atomic_directory(output.out, force=output.force) as directory:
            yield directory
    else:
        with scratch_folder() as scratch:
            yield scratch
