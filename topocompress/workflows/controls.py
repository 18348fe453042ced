"""What tells whether a choice was any good: accuracy step by step, and the same widths chosen otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from topocompress.criteria import L1, Random
from topocompress.criteria.base import Criterion
from topocompress.dependencies.groups import explicit
from topocompress.deploy.measurement import Predictions, agreement
from topocompress.deploy.paired import Paired, paired
from topocompress.planning.confidence import drawn_enough, paired_error
from topocompress.planning.controls import matched_plan
from topocompress.planning.selection import Selection
from topocompress.scoring.dispatch import score_layers
from topocompress.surgery.removal import apply
from topocompress.types import Control
from topocompress.workflows.job import Job
from topocompress.workflows.repair import repair
from topocompress.workflows.shrinking import Shrunk

_DRAWS = 3
"""How often filters are drawn at random."""


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


def run_controls(job: Job, shrunk: Shrunk, selection: Selection) -> tuple[Control, ...]:
    """The same widths at random and by L1, repaired alike but not fine-tuned: their accuracies, or metrics.

    Chance is drawn several times, or once where more would tell nothing: each draw is repaired anew, which for a large
    network is most of what a run takes.
    """
    if not job.data.labelled and job.metric is None:
        return ()
    listened = explicit(job.model)

    def by(other: Criterion) -> Predictions:
        with job.timed("controls"):
            scores = score_layers(listened, selection.scores.layers, other)
            chosen = matched_plan(shrunk.plan, selection.groups, scores)
            cut = repair(job, apply(job.model, chosen, example=job.example), chosen).model
        return job.evaluated(cut, f"evaluating the {other.name} control")

    ours, draws = job.evaluated(shrunk.cut, "evaluating the result"), list[Predictions]()
    while len(draws) < _DRAWS and not (draws and _enough(_paired(job, ours, draws[-1]))):
        draws.append(by(Random(seed=job.seed + len(draws))))
    found = {Random.name: draws}
    if shrunk.plan.criterion != L1.name:
        found[L1.name] = [by(L1())]
    return tuple(control for name, said in found.items() if (control := _control(job, name, ours, said)).accuracies)


def _enough(counts: Paired | None) -> bool:
    """Whether more draws would tell nothing more."""
    return counts is not None and drawn_enough(*counts)


def _control(job: Job, name: str, ours: Predictions, found: Sequence[Predictions]) -> Control:
    values = [each.accuracy if job.metric is None else each.metric for each in found]
    counts = [_paired(job, ours, each) for each in found]
    errors = [paired_error(*each) for each in counts if each is not None]
    known = tuple(value for value in values if value is not None)
    return Control(criterion=name, accuracies=known, error=max(errors, default=None))


def _paired(job: Job, ours: Predictions, other: Predictions) -> Paired | None:
    """What only one of them gets right, where that is what is judged by; the pixels of an image are not independent."""
    return paired(ours, other) if job.metric is None and ours.one_class_each else None
