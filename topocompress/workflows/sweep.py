"""How accuracy falls as a network gets faster: scored once, cut to several sizes, each measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from topocompress.data.loading import STAND_IN, Data
from topocompress.deploy.export import export_onnx
from topocompress.deploy.latency import compare_latency
from topocompress.deploy.measurement import Predictions, agreement
from topocompress.errors import PlanError
from topocompress.models.loading import LoadedModel, fingerprint
from topocompress.network.inference import sample_count
from topocompress.planning.selection import Selection
from topocompress.reporting import environment
from topocompress.reporting.doubts import labels_doubted
from topocompress.reporting.quantities import SHARES, amount, spoken
from topocompress.runtime.arguments import checked
from topocompress.runtime.files import atomic_file
from topocompress.runtime.progress import Progress, silent
from topocompress.runtime.result_store import ResultStore
from topocompress.runtime.temporary import scratch_folder
from topocompress.training import processes
from topocompress.types import Point, Sweep
from topocompress.workflows.choosing import choose
from topocompress.workflows.job import Job, open_job
from topocompress.workflows.options import Recovery, Removal, Scoring
from topocompress.workflows.selecting import criterion_of, select
from topocompress.workflows.shrinking import shrink


@checked
def sweep(
    loaded: LoadedModel,
    data: Data,
    targets: Sequence[float],
    *,
    removal: Removal | None = None,
    scoring: Scoring | None = None,
    recovery: Recovery | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    progress: Progress = silent,
) -> Sweep:
    """Cut a network to several sizes and measure each: accuracy, latency in ONNX Runtime, size of the file.

    Args:
        loaded: The model; not changed.
        data: Its samples.
        targets: Shares of the multiply-accumulates to leave, 0..1.
        removal: Limits, and where to cut; its rule is each of the targets in turn.
        scoring: How to score, once for all sizes.
        recovery: How each size is fine-tuned.
        seed: Seed of everything random.
        out: Folder for finished results, each in a file of its own; those that are there already are used.
        progress: Called as ``progress(step, done, total)``.

    Raises:
        PlanError: A target is not usable or out of reach.
        TopocompressError: As :func:`topocompress.compress`.
    """
    if not targets or not all(0 < target < 1 for target in targets):
        raise PlanError("a sweep needs shares of the multiply-accumulates between 0 and 1", hint="Such as 0.75,0.5.")
    processes.refuse_several("a sweep")
    job = open_job(
        loaded,
        data,
        seed=seed,
        progress=progress,
        removal=removal or Removal(),
        scoring=scoring or Scoring(criterion="persistence"),
        recovery=recovery or Recovery(),
    )
    criterion, recipe = criterion_of(job), job.recovery.recipe
    store = ResultStore(
        folder=None if out is None else Path(out) / "points",
        context={
            "model": fingerprint(loaded.module),
            "data": [data.fingerprint, sample_count(data.evaluation), data.source == STAND_IN],
            "criterion": [criterion.name, criterion.settings()],
            "limits": asdict(job.removal.limits),
            "how": [job.removal.allocation, list(job.removal.ignore), job.removal.linear, job.recovery.activation],
            "rounds": job.removal.iterations,  # so called when points were first kept
            "reconstruct": [job.recovery.reconstruct, job.recovery.distill_blocks],
            "training": recipe.settings() if recipe.epochs else {},
            "seed": seed,
            "measure": job.measure,
        },
    )
    points: list[Point] = []
    with scratch_folder() as folder:
        sizes = _Sizes(job, folder)
        for target in (1.0, *sorted(set(targets), reverse=True)):
            kept = store.restore(f"{target:g}", {"target": target}, Point, target=target)
            point = kept or sizes.point(target)
            if kept is None:
                store.write(f"{target:g}", {"target": target}, asdict(point))
            points.append(point)
            progress("sweeping", len(points), len(set(targets)) + 1)
    return Sweep(
        model=loaded.source,
        data=data.source,
        measure=job.judged_by,
        compared_by=job.outputs.what,
        criterion=criterion.name,
        finetune=recipe.epochs,
        points=tuple(points),
        settings=criterion.settings(),
        warnings=() if sizes.original is None else labels_doubted(sizes.original[0]),
    )


class _Sizes:
    """One network at several sizes; what they share is computed when the first needs it."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.job, self.folder = job, folder
        self.original: tuple[Predictions, Path] | None = None
        self.selection: Selection | None = None

    def point(self, target: float) -> Point:
        before, whole = self._measured()
        if target == 1:
            quality = (
                before.metric if before.metric is not None else 1.0 if before.accuracy is None else before.accuracy
            )
            return Point(target=1.0, macs=1.0, quality=quality, latency=1.0, file_bytes=whole.stat().st_size)
        if self.selection is None:
            self.selection = select(self.job)
        job = replace(self.job, removal=replace(self.job.removal, target_macs=target))
        shrunk = shrink(job, self.selection, choose(job, self.selection))
        found = self.job.evaluated(shrunk.model, f"evaluating: {target:.0%} of the MACs")
        smaller = self._exported(shrunk.model, "smaller.onnx")
        sample = self.job.data.calibration[0][0][None].numpy()
        (slow,), (fast,) = compare_latency((whole, smaller), sample=sample, batch_sizes=(1,))
        return Point(
            target=target,
            macs=shrunk.plan.macs_after / shrunk.plan.macs_before,
            quality=_quality(before, found),
            latency=fast.median_ms / slow.median_ms,
            file_bytes=smaller.stat().st_size,
        )

    def _measured(self) -> tuple[Predictions, Path]:
        if self.original is None:
            model = self.job.loaded.module
            found = self.job.evaluated(model, "evaluating the original")
            self.original = found, self._exported(model, "original.onnx")
        return self.original

    def _exported(self, model: nn.Module, name: str) -> Path:
        evaluation = self.job.data.evaluation
        count = min(4, sample_count(evaluation))
        export_onnx(model, self.folder / name, samples=torch.stack([evaluation[index][0] for index in range(count)]))
        return self.folder / name


def _quality(before: Predictions, found: Predictions) -> float:
    if found.metric is not None:
        return found.metric
    return agreement(before, found) if found.accuracy is None else found.accuracy


def fastest_within(found: Sweep, points: float) -> Point | None:
    """The fastest network that loses no more than so many points of the original's quality; ``None`` if none does.

    Of a metric that is no share in 0..1, so many percent of the original's.
    """
    original = found.points[0]
    whole = 1.0 if found.measure in SHARES else abs(original.quality)
    near = [point for point in found.points[1:] if 100 * (original.quality - point.quality) <= points * whole]
    return min(near, key=lambda point: point.latency, default=None)


def recommendation(found: Sweep) -> str:
    """What the curve says, in one sentence."""
    shares = found.measure in SHARES
    for points in (1.0, 5.0):
        best = fastest_within(found, points)
        if best is not None and best.latency < 1:
            unit = f" point{'s' * (points != 1)}" if shares else " %"
            return (
                f"The fastest within {points:g}{unit} of {spoken(found.measure)}: --target-macs "
                f"{best.target:g}, {1 / best.latency:.2f}× faster, {amount(found.measure, best.quality)} against "
                f"{amount(found.measure, found.points[0].quality)}."
            )
    again = "longer fine-tuning" if found.finetune else "fine-tuning (--finetune)"
    within = "5 points" if shares else "5 %"
    return f"No size tried is faster within {within} of {spoken(found.measure)}: try {again}, or another --criterion."


def write(path: Path, found: Sweep) -> None:
    """Write ``sweep.json``: every point, which of them are on the Pareto front, machine and versions.

    Raises:
        OutputError: The file cannot be written.
    """
    content = {**asdict(found), "front": [point.target for point in found.front], "environment": environment.describe()}
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
