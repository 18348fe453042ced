"""What tells whether a choice was any good: accuracy step by step, and the same widths chosen otherwise."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from topocompress.criteria import L1, Random
from topocompress.dependencies.groups import explicit
from topocompress.deploy.measurement import Predictions, agreement
from topocompress.planning.controls import matched_plan
from topocompress.planning.selection import Selection
from topocompress.scoring.dispatch import score_layers
from topocompress.surgery.removal import apply
from topocompress.types import Control, PruningPlan
from topocompress.workflows.job import Job
from topocompress.workflows.repair import repair
from topocompress.workflows.shrinking import Shrunk

_RANDOM_SEEDS = 3


def left_after_removal(job: Job, shrunk: Shrunk, before: Predictions) -> dict[str, Any]:
    """What is left right after removal, once BatchNorm has other statistics, layers are refitted, and blocks distilled.

    Where a step changed nothing it says the same as the one before.
    """
    raw = job.evaluated(shrunk.bare, "evaluating after removal")
    settled = raw
    if shrunk.settled is not shrunk.bare:
        settled = job.evaluated(shrunk.settled, "evaluating after re-estimation")
    repaired = settled
    if shrunk.repaired.reconstructed is not shrunk.settled:
        repaired = job.evaluated(shrunk.repaired.reconstructed, "evaluating after reconstruction")
    distilled = repaired
    if shrunk.cut is not shrunk.repaired.reconstructed:
        distilled = job.evaluated(shrunk.cut, "evaluating after distillation")
    stages = {"": raw, "_recalibrated": settled, "_repaired": repaired, "_distilled": distilled}
    return {
        **({} if job.metric is None else {f"metric{stage}": found.metric for stage, found in stages.items()}),
        **{f"accuracy{stage}": found.accuracy for stage, found in stages.items()},
        **{f"{job.outputs.measure}{stage}": agreement(before, found) for stage, found in stages.items()},
        "statistics": shrunk.repaired.statistics,
        "distilled_epochs": job.recovery.distill_blocks if shrunk.cut is not shrunk.repaired.reconstructed else 0,
        "not_distilled": shrunk.repaired.undistilled,
        "refitted": [asdict(refit) for refit in shrunk.repaired.refits],
        "refit_samples": shrunk.repaired.samples,
        "not_refitted": shrunk.repaired.left,
    }


def run_controls(job: Job, plan: PruningPlan, selection: Selection) -> tuple[Control, ...]:
    """The same widths by L1 and at random, repaired alike but not fine-tuned: their accuracies, or metrics."""
    if not job.data.labelled and job.metric is None:
        return ()
    found: dict[str, list[float]] = {}
    listened = explicit(job.model)
    for other in (*(Random(seed=job.seed + run) for run in range(_RANDOM_SEEDS)), L1()):
        if other.name == plan.criterion and not isinstance(other, Random):
            continue
        with job.timed("controls"):
            scores = score_layers(listened, selection.scores.layers, other)
            chosen = matched_plan(plan, selection.groups, scores)
            cut = repair(job, apply(job.model, chosen, example=job.example), chosen).model
        predictions = job.evaluated(cut, f"evaluating the {other.name} control")
        value = predictions.accuracy if job.metric is None else predictions.metric
        if value is not None:
            found.setdefault(other.name, []).append(value)
    return tuple(Control(criterion=name, accuracies=tuple(values)) for name, values in found.items())
