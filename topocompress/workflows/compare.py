"""Criteria against each other on one model: the same widths, the same samples, the same fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn
from torch.utils.data import Subset

from topocompress.criteria.base import Criterion
from topocompress.criteria.registry import create
from topocompress.data.loading import STAND_IN, Data
from topocompress.deploy.measurement import Predictions, agreement
from topocompress.errors import CriterionError, DataError, PlanError
from topocompress.models.loading import LoadedModel, fingerprint
from topocompress.network.inference import sample_count
from topocompress.network.task import Loss, Metric, identity_of
from topocompress.planning.controls import matched_plan
from topocompress.planning.plan import make_plan
from topocompress.planning.rules import Limits, check_block_epochs
from topocompress.reporting.doubts import labels_doubted
from topocompress.runtime.arguments import checked
from topocompress.runtime.progress import Progress, silent
from topocompress.runtime.resources import ANY
from topocompress.runtime.result_store import ResultStore
from topocompress.surgery.removal import apply
from topocompress.surgery.trial import prunable_groups
from topocompress.training import processes
from topocompress.training.recipe import Recipe
from topocompress.training.step import fitted
from topocompress.types import Cell, ChannelGroup, Comparison, LayerCost, PruningPlan, Scores
from topocompress.workflows.job import Job, named
from topocompress.workflows.options import Recovery, check_task
from topocompress.workflows.repair import repair
from topocompress.workflows.samples import fitted_labels
from topocompress.workflows.selecting import suited
from topocompress.workflows.shrinking import tune
from topocompress.workflows.single_steps import layer_costs, score_groups

GLOBAL = "@global"
"""Behind a criterion's name: it chooses where to cut as well, at the same multiply-accumulates."""


@checked
def compare(
    loaded: LoadedModel,
    data: Data,
    *,
    criteria: Sequence[str],
    ratios: Sequence[float],
    samples: int,
    seeds: int = 3,
    finetune: Recipe | int = 0,
    reconstruct: bool = True,
    distill_blocks: int = 0,
    metric: Metric | str | None = None,
    loss: Loss | str | None = None,
    ignore: Sequence[str] = (),
    round_to: int | Literal["auto"] = "auto",
    out: str | Path | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Prune by each criterion, at each ratio, with each of several sets of calibration samples, and see what is left.

    All criteria remove as many channels of every group, so all results of one ratio have the same widths; a criterion
    with ``@global`` behind its name chooses the widths itself, at no more multiply-accumulates.

    Args:
        loaded: The model; not changed.
        data: Loaded data with ``samples`` · ``seeds`` calibration samples; each seed gets a part of its own.
        criteria: Names, with settings if wanted; see :func:`topocompress.criteria.registry.create`. Each is used as it
            suits what follows removal (:meth:`~topocompress.criteria.Criterion.suited`), at every stage.
        ratios: Shares of every group's channels that go, 0..1.
        samples: Calibration samples of one seed.
        seeds: How many sets of calibration samples.
        finetune: How to fine-tune every result, or for how many epochs; without labels by distillation only.
        reconstruct: Refit every result without labels first, where that does it good.
        distill_blocks: Epochs in which its blocks then learn from the original, where that does it good.
        metric: What all are judged by; this and ``loss`` as in :class:`~topocompress.workflows.options.Recovery`.
        loss: What fine-tuning minimises.
        ignore: Shell-style patterns of layers whose groups stay whole.
        round_to: Kept widths are multiples of it.
        out: Folder for finished results, each in a file of its own; those that are there already are used.
        progress: Called as ``progress(step, done, total)``.

    Returns:
        Every result, and one sentence on what to use.

    Raises:
        DataError: Too few samples, or fine-tuning without labels.
        PlanError: A ratio is not usable.
        CriterionError: A criterion is unknown, or none of them has scores for every group that can be pruned; one that
            lacks some is left out.
    """
    plain = {name: create(name.removesuffix(GLOBAL)) for name in criteria}
    if not criteria or not ratios or seeds < 1:
        raise PlanError("a comparison needs at least one criterion, one ratio and one seed")
    if sample_count(data.calibration) < samples * seeds:
        raise DataError(
            f"{seeds} sets of {samples} calibration samples, and there are {sample_count(data.calibration)}",
            hint="Lower --samples or --seeds, or give more data.",
        )
    processes.refuse_several("a comparison")
    data = fitted_labels(loaded, data)
    folder = None if out is None else Path(out) / "cells"
    check_block_epochs(distill_blocks)
    recovery = Recovery(
        finetune=finetune,
        reconstruct=reconstruct,
        distill_blocks=distill_blocks,
        metric=named(metric),
        loss=named(loss),
    )
    check_task(recovery)
    recovery = replace(recovery, finetune=fitted(finetune, loaded.module, data, own_loss=loss is not None))
    adapted = {
        name: _written(suited(each, recovery, loaded.module).settings_against(each)) for name, each in plain.items()
    }
    comparing = _Comparing.open(
        loaded, data, samples, Limits(round_to=round_to), recovery, tuple(ignore), folder, progress
    )
    cells: list[Cell] = []
    left_out: dict[str, str] = {}
    for seed in range(seeds):
        for name in criteria:
            if name in left_out:
                continue
            try:
                cells += comparing.results(name, ratios, seed)
            except CriterionError as error:
                left_out[name] = error.what
                cells = [cell for cell in cells if cell.criterion != name]
                if len(left_out) == len(criteria):
                    raise
            progress("comparing", len(cells), (len(criteria) - len(left_out)) * len(ratios) * seeds)
    return Comparison(
        model=loaded.source,
        data=data.source,
        measure=comparing.job.judged_by,
        compared_by=comparing.job.outputs.what,
        original=comparing.value(comparing.before),
        macs=sum(cost.macs for cost in comparing.costs.values()),
        samples=samples,
        finetune=recovery.epochs,
        cells=tuple(cells),
        left_out=tuple(left_out.items()),
        adapted=tuple((name, changed) for name, changed in adapted.items() if changed and name not in left_out),
        warnings=labels_doubted(comparing.before),
    )


def _written(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in settings.items()
    )


def contestant(
    name: str,
    scores: Scores,
    groups: Sequence[ChannelGroup],
    costs: Mapping[str, LayerCost],
    *,
    ratio: float,
    limits: Limits,
) -> PruningPlan:
    """What a criterion removes at one ratio: so many channels of every group, or, with ``@global``, its own widths.

    Args:
        name: As in :func:`compare`.
        scores: The criterion's.
        groups: The model's channel groups.
        costs: Its multiply-accumulates per layer.
        ratio: Share of every group's channels that go, 0..1.
        limits: Which widths may stay.

    Raises:
        PlanError: The ratio is not usable, or the scores of different layers cannot be compared.
    """
    plan = make_plan(scores, groups, costs, ratio=ratio, limits=limits)
    if not name.endswith(GLOBAL):
        return matched_plan(plan, groups, scores)
    target = plan.macs_after / plan.macs_before
    return make_plan(scores, groups, costs, target_macs=target, limits=limits, allocation="global")


@dataclass(frozen=True, kw_only=True)
class _Comparing:
    job: Job
    samples: int
    limits: Limits
    store: ResultStore
    groups: Sequence[ChannelGroup]
    costs: dict[str, LayerCost]
    before: Predictions

    @classmethod
    def open(
        cls,
        loaded: LoadedModel,
        data: Data,
        samples: int,
        limits: Limits,
        recovery: Recovery,
        ignore: tuple[str, ...],
        folder: Path | None,
        progress: Progress,
    ) -> _Comparing:
        job, recipe = Job(loaded=loaded, data=data, progress=progress, recovery=recovery), recovery.recipe
        context = {
            "model": fingerprint(loaded.module),
            "data": [data.fingerprint, sample_count(data.evaluation), data.source == STAND_IN],
            "limits": asdict(limits),
            "ignore": list(ignore),
            "finetune": recipe.settings() if recipe.epochs else [],
            "reconstruct": [recovery.reconstruct, recovery.distill_blocks],
            "measure": job.measure,
            **({"task": [identity_of(job.metric), identity_of(job.loss)]} if job.metric or job.loss else {}),
        }
        return cls(
            job=job,
            samples=samples,
            limits=limits,
            store=ResultStore(folder=folder, context=context),
            groups=prunable_groups(loaded.module, job.example, ignore=ignore),
            costs=layer_costs(loaded.module, job.example),
            before=job.evaluated(loaded.module, "evaluating the original"),
        )

    def results(self, name: str, ratios: Sequence[float], seed: int) -> list[Cell]:
        """The results of one criterion and one set of samples, from files where they are there."""
        options = {"seed": seed} if name == "random" else {}
        criterion = suited(create(name.removesuffix(GLOBAL), **options), self.job.recovery, self.job.model)
        scores: Scores | None = None
        found = []
        for ratio in ratios:
            file = f"{name}-{ratio:g}-{seed}"
            key = {"criterion": [name, criterion.settings()], "cell": [ratio, seed, self.samples]}
            kept = self.store.restore(file, key, Cell, criterion=name, ratio=ratio, seed=seed)
            if kept is not None:
                found.append(kept)
                continue
            job = self._job(seed)
            if scores is None:
                scores = self._scores(job, criterion)
            found.append(self._result(job, name, scores, ratio, seed))
            self.store.write(file, key, asdict(found[-1]))
        return found

    def _job(self, seed: int) -> Job:
        part = Subset(self.job.data.calibration, range(seed * self.samples, (seed + 1) * self.samples))
        return replace(self.job, data=replace(self.job.data, calibration=part), seed=seed)

    def _scores(self, job: Job, criterion: Criterion) -> Scores:
        scores = score_groups(
            job.loaded.module,
            self.groups,
            criterion,
            job.calibration,
            example=job.example,
            resources=ANY,
            progress=job.progress,
        )
        for group in self.groups:
            if not group.protected and not any(layer in scores.layers for layer in group.filters):
                raise CriterionError(
                    f"criterion {criterion.name!r} has no scores for {group.root}, so its widths cannot be the same",
                    hint="Leave it out of --criteria, or keep the layer whole with --ignore.",
                )
        return scores

    def _result(self, job: Job, name: str, scores: Scores, ratio: float, seed: int) -> Cell:
        plan = contestant(name, scores, self.groups, self.costs, ratio=ratio, limits=self.limits)
        what = f"{name} at {ratio:g}"
        bare = apply(job.loaded.module, plan, example=job.example)
        cut = repair(job, bare, plan).model
        removed = self._measure(bare, what)
        settled = self._measure(cut, what) if cut is not bare else removed
        tuned = tune(job, cut)
        return Cell(
            criterion=name,
            ratio=ratio,
            seed=seed,
            macs=plan.macs_after,
            removed=removed,
            settled=settled,
            tuned=self._measure(tuned.model, what) if tuned else None,
        )

    def _measure(self, model: nn.Module, what: str) -> float:
        return self.value(self.job.evaluated(model, f"evaluating: {what}"))

    def value(self, found: Predictions) -> float:
        """The measure of what a network says."""
        value = found.accuracy if found.metric is None else found.metric
        return agreement(self.before, found) if value is None else value
