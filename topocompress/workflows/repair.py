"""What is done to a network right after removal, without labels or training: layers refitted, BatchNorm that fits."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from topocompress.data.loading import STAND_IN
from topocompress.errors import DataError, ModelError
from topocompress.network.batchnorm import match_moments, recalibrate_batchnorm, with_statistics
from topocompress.reconstruction.distillation import distill_blocks
from topocompress.reconstruction.refit import Reconstruction, reconstruct
from topocompress.runtime.resources import give_back
from topocompress.surgery.kept import kept_channels
from topocompress.training import processes
from topocompress.types import PruningPlan, Refit
from topocompress.workflows.job import Job
from topocompress.workflows.kept_steps import once

Statistics = Literal["re-estimated", "matched", "kept"]


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """A pruned network, and what became of it.

    Attributes:
        model: The network, its blocks distilled where that was asked for and did good.
        reconstructed: The same before that; ``model`` itself where blocks were not distilled.
        settled: The pruned network with other BatchNorm statistics alone; ``reconstructed`` itself where nothing was
            refitted.
        statistics: What became of the BatchNorm statistics of ``settled``.
        refits: Layers that were refitted; none where that did no good.
        samples: How many samples they were fitted to and judged by.
        left: Why nothing was refitted; empty where something was, or nobody asked.
        undistilled: Why blocks were not distilled; empty where they were, or nobody asked.
    """

    model: nn.Module
    reconstructed: nn.Module
    settled: nn.Module
    statistics: Statistics
    refits: tuple[Refit, ...] = ()
    samples: int = 0
    left: str = ""
    undistilled: str = ""


@dataclass(frozen=True, kw_only=True)
class _Refitted:
    """What the cache holds of refitted layers besides the network."""

    layers: tuple[Refit, ...]
    samples: int


@dataclass(frozen=True, kw_only=True)
class _Taught:
    """What the cache holds of distilled blocks besides the network: nothing."""


def repair(job: Job, pruned: nn.Module, plan: PruningPlan) -> Repaired:
    """The job's model without a plan's channels, repaired without labels as was asked, and as far as that does it good.

    Its readers are refitted, its statistics chosen, its blocks distilled. Each is taken if the network then answers no
    less like the original on samples that were held out; so it does no harm that shows there.

    Args:
        job: The original and its calibration samples.
        pruned: The original without the plan's channels; not changed.
        plan: What was removed.
    """
    found = _refitted(job, pruned, plan)
    epochs = job.recovery.distill_blocks
    if not epochs or not plan.removed:
        return found
    try:
        taught = processes.from_main(lambda: _distilled(job, found.model, epochs))
    except (DataError, ModelError) as error:
        return replace(found, undistilled=error.what)
    if job.explained(taught) <= job.explained(found.model):
        return replace(found, undistilled="the outputs would be less like the original's on samples held out")
    return replace(found, model=taught)


def _refitted(job: Job, pruned: nn.Module, plan: PruningPlan) -> Repaired:
    settled, statistics = settle(job, pruned, plan)
    plain = Repaired(model=settled, reconstructed=settled, settled=settled, statistics=statistics)
    if not job.recovery.reconstruct or not plan.removed:
        return plain
    try:
        found = processes.from_main(lambda: _reconstructed(job, pruned, plan))
    except (DataError, ModelError) as error:
        return replace(plain, left=error.what)
    best = found.model
    if job.data.source != STAND_IN and any(with_statistics(best)):
        estimated, kept = recalibrate_batchnorm(best, job.passes.statistics), job.likeness(best)
        noise = math.sqrt(max(0.0, kept) * (1 - kept) / job.passes.choice_count)
        if job.likeness(estimated) > kept + noise:  # layers were fitted to the statistics that are there
            best = estimated
    refits = tuple(refit for refit in found.layers if refit.ridge is not None)
    if not refits:
        return replace(plain, left="no layer came nearer to what it gave before on samples held out")
    if job.likeness(best, held_out=True) < job.likeness(settled, held_out=True):
        return replace(plain, left="it would answer less like the original on samples held out")
    return replace(plain, model=best, reconstructed=best, refits=found.layers, samples=found.samples)


def _reconstructed(job: Job, pruned: nn.Module, plan: PruningPlan) -> Reconstruction:
    memory = None if job.scoring.resources is None else job.scoring.resources.memory
    give_back()

    def make() -> tuple[nn.Module, _Refitted]:
        found = reconstruct(
            pruned, job.model, plan, job.passes.repair, seed=job.seed, memory=memory, progress=job.progress
        )
        return found.model, _Refitted(layers=found.layers, samples=found.samples)

    model, known = once(job, pruned, {"step": "reconstruction", "memory": memory}, _Refitted, make)
    return Reconstruction(model=model, layers=known.layers, samples=known.samples)


def _distilled(job: Job, model: nn.Module, epochs: int) -> nn.Module:
    def make() -> tuple[nn.Module, _Taught]:
        taught = distill_blocks(
            model, job.model, job.passes.repair, epochs=epochs, seed=job.seed, progress=job.progress
        )
        return taught, _Taught()

    try:
        return once(job, model, {"step": "block distillation", "epochs": epochs}, _Taught, make)[0]
    except KeyboardInterrupt as error:
        if job.cache is None:
            raise
        raise KeyboardInterrupt("what was refitted is kept; --resume continues from there") from error


def settle(job: Job, pruned: nn.Module, plan: PruningPlan) -> tuple[nn.Module, Statistics]:
    """The network with BatchNorm statistics that fit what is left.

    Those of the calibration samples, as long as with them the network does not answer less like the original on these.
    Else, and where photographs stand in for the user's images, the trained ones, corrected for what removal changed, if
    that does good; or else just those.
    """
    if not any(with_statistics(pruned)):
        return pruned, "kept"
    bare = job.likeness(pruned)
    if job.data.source != STAND_IN:
        estimated = recalibrate_batchnorm(pruned, job.passes.statistics)
        if job.likeness(estimated) >= bare:
            return estimated, "re-estimated"
    kept = kept_channels(job.model, plan, example=job.example)
    matched = match_moments(pruned, job.model, kept, job.passes.statistics)
    if job.likeness(matched) > bare:
        return matched, "matched"
    return pruned, "kept"
