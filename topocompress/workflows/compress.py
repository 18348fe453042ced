"""The whole job: :func:`compress`. The only place where the steps are composed."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn

from topocompress.criteria.base import CloudCriterion, Criterion
from topocompress.criteria.registry import create
from topocompress.data.loading import ONE_LABEL, STAND_IN, Data, check_classes, load_data
from topocompress.errors import DataError
from topocompress.models.loading import LoadedModel, load_model
from topocompress.network.capture import EXACT, Maps
from topocompress.network.detectors import boxes_of
from topocompress.network.inference import evaluating, main_output, run_forward, sample_count
from topocompress.planning.allocation import Allocation
from topocompress.planning.rules import (
    Limits,
    check_activation,
    check_quantize,
    check_rounds,
    check_rule,
    check_samples,
)
from topocompress.reporting import describe, environment
from topocompress.reporting import write as report
from topocompress.reporting.advice import TOLERATED_LOSS, Situation, loss, remedies, verdict
from topocompress.runtime.files import atomic_directory, check_free
from topocompress.runtime.progress import Progress, silent
from topocompress.runtime.resources import ANY, Resources
from topocompress.surgery.run_directory import is_run, load_run, write_run
from topocompress.training import processes
from topocompress.training.accelerator import team
from topocompress.training.recipe import Recipe
from topocompress.training.step import fitted
from topocompress.types import Architecture, Preprocessing, PruningPlan, Report, Scores
from topocompress.workflows.delivery import deliver
from topocompress.workflows.shrinking import Shrinker
from topocompress.workflows.steps import Job, left_after_removal, run_controls, tune


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


def open_model(source: str | Path, *, arch: str | None = None, **options: Any) -> LoadedModel:
    """Load anything that can be pruned: what :func:`topocompress.models.loading.load_model` takes, or a run directory.

    Raises:
        ModelError: The model is not usable.
        ArtifactError: The run directory is not usable.
    """
    return load_run(source, arch=arch) if is_run(source) else load_model(source, arch=arch, **options)


@team()
def compress(
    model: LoadedModel | nn.Module | str | Path,
    data: Data | str | None = None,
    *,
    max_betti: float | None = None,
    ratio: float | None = None,
    target_macs: float | None = None,
    max_accuracy_drop: float | None = None,
    target_latency: float | None = None,
    target_size: float | None = None,
    criterion: str | Criterion = "betti",
    samples: int = 1000,
    min_channels: int = 1,
    max_ratio: float | None = None,
    round_to: int | Literal["auto"] = "auto",
    ignore: Sequence[str] = (),
    linear: bool = False,
    allocation: Allocation = "uniform",
    finetune: Recipe | int = 0,
    activation: str | None = None,
    rounds: int = 1,
    quantize: str | None = None,
    controls: bool = True,
    seed: int = 0,
    resources: Resources = ANY,
    maps: Maps = EXACT,
    cache: str | Path | None = None,
    resume: bool = False,
    out: str | Path | None = None,
    force: bool = False,
    dry_run: bool = False,
    command: Sequence[str] = (),
    progress: Progress = silent,
) -> Result:
    """Score, plan, remove, fine-tune, export, measure and report.

    Args:
        model: Anything :func:`open_model` takes, a loaded model, or a module of your own (then ``data`` is a
            :class:`~topocompress.data.loading.Data`). It is not changed.
        data: A data source as on the command line, loaded data, or ``None`` for photographs that stand in for images.
        max_betti: Remove channels whose Betti number lies above this. Exactly one rule must be given.
        ratio: Remove this share of each group's channels, 0..1.
        target_macs: Leave this share of the multiply-accumulates, 0..1.
        max_accuracy_drop: Remove as much as costs no more than so many points of top-1 accuracy, after fine-tuning if
            there is any. This and the next two are found by trying, and every try is in the report.
        target_latency: Leave as much as takes no more than this share of the original's latency in ONNX Runtime, 0..1.
        target_size: Leave as much as an ONNX file of so many bytes holds.
        criterion: Registered name or instance; with ``finetune`` as its ``before_tuning()`` has it.
        samples: Calibration samples; must exceed ``max_betti``.
        min_channels: Channels that each group keeps at least.
        max_ratio: Largest share of a group that may go; 0.5 with ``max_betti``.
        round_to: Kept widths are multiples of it.
        ignore: Shell-style patterns of layers whose groups stay whole.
        linear: Whether linear layers that see a vector per sample may be pruned too.
        allocation: With ``target_macs``, ``global`` cuts where least is lost for what is saved.
        finetune: How to fine-tune, or for how many epochs; needs labels.
        activation: ``topological`` swaps activations before fine-tuning, which then learns their amplitudes.
        rounds: In how many rounds the channels go, each scored anew and followed by fine-tuning.
        quantize: ``int8`` writes and measures a file in 8 bits as well.
        controls: Measure the same widths chosen at random and by L1, where there are labels.
        seed: Seed of everything random.
        resources: Memory and processes for scoring; the result does not depend on them.
        maps: How feature maps become the points of clouds; exact by default.
        cache: Folder where scores and, until the run is finished, epochs are kept; nowhere if ``None``.
        resume: Continue the scoring and fine-tuning that an interrupted run has left in the cache.
        out: Run directory to write; nothing is written if ``None``.
        force: Replace an existing run directory.
        dry_run: Stop after the plan.
        command: The command line for the report and its remedies, without the program's name.
        progress: Called as ``progress(step, done, total)``.

    Raises:
        TopocompressError: Something given is not usable, or a result failed its check; the message says what to do.
    """
    if out is not None and not dry_run:
        check_free(out, force=force)
    chosen = create(criterion) if isinstance(criterion, str) else criterion
    rule = check_rule(
        chosen.name,
        chosen.higher,
        max_betti=max_betti,
        ratio=ratio,
        target_macs=target_macs,
        max_accuracy_drop=max_accuracy_drop,
        target_latency=target_latency,
        target_size=target_size,
    )
    if isinstance(chosen, CloudCriterion):
        check_samples(samples if not isinstance(data, Data) else sample_count(data.calibration), max_betti)
    epochs = finetune if isinstance(finetune, int) else finetune.epochs
    chosen = chosen.before_tuning() if epochs else chosen
    check_activation(activation, epochs)
    check_rounds(rounds, rule, epochs)
    check_quantize(quantize)
    limits = Limits(min_channels=min_channels, max_ratio=max_ratio, round_to=round_to)
    job = _open(model, data, samples=samples, seed=seed, progress=progress)
    original = job.loaded.module
    recipe = fitted(finetune, original, job.data)
    shrinker = Shrinker(
        criterion=chosen,
        tune=lambda job, model: tune(job, model, recipe, teacher=original, cache=cache, resume=resume),
        activation=activation,
        rounds=rounds,
        limits=limits,
        allocation=allocation,
        ignore=ignore,
        linear=linear,
        resources=resources,
        maps=maps,
        cache=cache,
        resume=resume,
    )
    selection = shrinker.select(job)
    scores, groups = selection.scores, selection.groups
    choice = shrinker.choose(job, selection, rule)
    if dry_run:
        return Result(model=original, plan=choice.plan, scores=scores, report=None)
    before = job.evaluated(original, "evaluating the original")
    shrunk = shrinker.shrink(job, selection, choice)
    plan, finished = shrunk.plan, shrunk.model
    removed = left_after_removal(job, shrunk.bare, shrunk.cut, shrunk.statistics, before)
    if not processes.part():
        return Result(model=finished, plan=plan, scores=scores, report=None)
    after = job.evaluated(finished, "evaluating the result")
    others = run_controls(job, plan, groups, scores) if controls and job.data.labelled else ()
    place = atomic_directory(out, force=force) if out is not None else _scratch()
    with place as directory:
        delivery = deliver(job, directory, (original, before), (finished, after), int8=quantize is not None)
        sides = (delivery.before, delivery.after)
        situation = Situation(
            command=command,
            labelled=job.data.labelled,
            classifies=before.boxes is None and before.classes.ndim == 1,
            teachable=before.boxes is None and job.data.source != STAND_IN,
            finetune=recipe.epochs,
            max_betti=max_betti,
        )
        judgement = verdict(plan.criterion, removed["accuracy_recalibrated"], others)
        bad = loss(*sides) > TOLERATED_LOSS
        finished_report = Report(
            model=describe.model(job.loaded, plan.model),
            data=describe.data(job.data),
            scoring=describe.scoring(scores),
            plan=describe.plan(plan, groups, scores),
            before=sides[0],
            removed=removed,
            after=sides[1],
            export=delivery.export,
            quantized=delivery.quantized,
            budget=choice.budget,
            controls=others,
            finetune=describe.tuning(shrunk.tunings, recipe, shrunk.swapped),
            warnings=describe.collect_warnings(job.loaded, job.data, plan, delivery, judgement, shrunk.swapped)
            + describe.budget_missed(choice.budget, sides)
            + describe.tuning_warnings(job.data, recipe)
            + describe.nothing_found(before),
            remedies=remedies(situation, scores, plan) if bad else (),
            environment={
                **environment.describe(),
                "seed": seed,
                "command": list(command),
                "seconds": job.seconds,
            },
        )
        if out is not None:
            report.write_report(directory, finished_report)
            write_run(
                directory,
                finished,
                plans=(*job.loaded.history, plan),
                preprocessing=job.loaded.preprocessing,
                architecture=job.loaded.architecture,
                classes=job.data.classes if job.data.labelled else job.loaded.classes,
            )
    job.forget_checkpoints()
    return Result(model=finished, plan=plan, scores=scores, report=finished_report)


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def _open(
    model: LoadedModel | nn.Module | str | Path, data: Data | str | None, *, samples: int, seed: int, progress: Progress
) -> Job:
    if isinstance(model, nn.Module):
        if not isinstance(data, Data):
            raise DataError("a module of your own needs loaded data", hint="Use topocompress.data.loading.load_data.")
        image, _ = data.calibration[0]
        channels, height, width = image.shape
        name = f"{type(model).__module__}:{type(model).__qualname__}"
        loaded = LoadedModel(
            module=model,
            architecture=Architecture(kind="object", name=name),
            preprocessing=Preprocessing(input_shape=(channels, height, width)),
            source=name,
        )
    else:
        loaded = model if isinstance(model, LoadedModel) else open_model(model)
    found = data
    if not isinstance(found, Data):
        found = load_data(found, preprocessing=loaded.preprocessing, samples=samples, seed=seed)
    job = Job(loaded=loaded, data=found, seed=seed, progress=progress)
    if found.labelled:
        with evaluating(loaded.module):
            output = run_forward(loaded.module, job.example)
        if boxes_of(output) is not None or (main_output(output).ndim > 2 and np.ndim(found.evaluation[0][1]) == 0):
            job.data = replace(found, labelled=False, note=ONE_LABEL)
        else:
            check_classes(found, main_output(output).shape[1])
    return job
