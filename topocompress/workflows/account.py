"""What a finished job says of itself: its report, and the directory that can be loaded and pruned again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from topocompress.data.loading import STAND_IN
from topocompress.deploy.measurement import Predictions
from topocompress.network.task import name_of
from topocompress.planning.selection import Selection
from topocompress.reporting import budgets, describe, environment
from topocompress.reporting.advice import TOLERATED_LOSS, Situation, advise, ahead, hasten, loss, outdone
from topocompress.reporting.doubts import labels_doubted
from topocompress.reporting.unseen import nothing_found, unseen
from topocompress.reporting.write import write_report
from topocompress.surgery.run_directory import write_run
from topocompress.types import Control, Delivery, Report
from topocompress.workflows.job import Job
from topocompress.workflows.shrinking import Choice, Shrunk


def report_on(
    job: Job,
    selection: Selection,
    choice: Choice,
    shrunk: Shrunk,
    *,
    before: Predictions,
    removed: dict[str, Any],
    controls: tuple[Control, ...],
    delivery: Delivery,
    command: Sequence[str],
) -> Report:
    """The report.

    Args:
        job: The model, its data and what was asked.
        selection: Its scores and groups.
        choice: What was to go.
        shrunk: What has become of the network.
        before: What the original says of the held-out samples.
        removed: From :func:`~topocompress.workflows.controls.left_after_removal`.
        controls: The same widths chosen otherwise.
        delivery: The files and their measurements.
        command: The command line, for the advice.
    """
    plan, sides = shrunk.plan, (delivery.before, delivery.after)
    recipe = job.recovery.recipe
    left = removed["accuracy_distilled"] if job.metric is None else removed["metric_distilled"]
    situation = Situation(
        command=command,
        labelled=job.data.labelled,
        classifies=before.one_class_each,
        teachable=before.boxes is None and job.data.source != STAND_IN,
        finetune=recipe.epochs,
        max_betti=job.removal.max_betti,
        scaled=job.data.threshold_samples is not None,
        left=left,
    )
    judged = (plan.criterion, left, controls, job.measure)
    tuned = recipe.epochs > 0
    budget = budgets.settled(choice.budget, sides)
    bad = loss(*sides) > TOLERATED_LOSS
    return Report(
        model=describe.model(job.loaded, plan.model),
        data={**describe.data(job.data, job.outputs), **_metric(job)},
        scoring=describe.scoring(selection.scores),
        plan=describe.plan(plan, selection.groups, selection.scores),
        before=sides[0],
        removed=removed,
        after=sides[1],
        export=delivery.export,
        quantized=delivery.quantized,
        half=delivery.half,
        budget=budget,
        controls=controls,
        finetune=describe.tuning(shrunk.tunings, recipe, shrunk.swapped),
        warnings=tuple(filter(None, [budgets.missed(budget, sides)]))
        + describe.collect_warnings(job.data, plan, delivery, outdone(*judged, tuned=tuned))
        + describe.tuning_warnings(job.data, recipe)
        + nothing_found(before)
        + labels_doubted(before)
        + unseen(job.outputs, job.scoring.criterion),
        notes=describe.collect_notes(job.loaded, job.data, ahead(*judged, tuned=tuned), shrunk.swapped),
        advice=advise(situation, selection.scores, plan, controls) if bad else (),
        faster=hasten(situation, plan, sides),
        environment={
            **environment.describe(),
            "seed": job.seed,
            "command": list(command),
            "seconds": job.seconds,
            "cpu_seconds": job.cpu_seconds,
        },
    )


def _metric(job: Job) -> dict[str, str]:
    return {} if job.metric is None else {"measure": "metric", "metric": name_of(job.metric)}


def save(job: Job, shrunk: Shrunk, report: Report, directory: Path) -> None:
    """Write the report, and what :func:`topocompress.load` and another run need.

    Raises:
        OutputError: It cannot be written.
    """
    write_report(directory, report)
    write_run(
        directory,
        shrunk.model,
        plans=(*job.loaded.history, shrunk.plan),
        preprocessing=job.loaded.preprocessing,
        architecture=job.loaded.architecture,
        classes=job.class_names,
    )
