"""What is done to a network right after removal, without labels or training: layers refitted, BatchNorm that fits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from topocompress.data.loading import STAND_IN
from topocompress.errors import DataError, ModelError
from topocompress.network.batchnorm import match_moments, recalibrate_batchnorm, with_statistics
from topocompress.reconstruction.refit import Reconstruction, reconstruct
from topocompress.surgery.removal import kept_channels
from topocompress.training import processes
from topocompress.types import PruningPlan, Refit
from topocompress.workflows.job import Job

Statistics = Literal["re-estimated", "matched", "kept"]


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """A pruned network, and what became of it.

    Attributes:
        model: The network.
        settled: The same with other BatchNorm statistics alone; ``model`` itself where nothing was refitted.
        statistics: What became of the BatchNorm statistics of ``settled``.
        refits: Layers that were refitted; none where that did no good.
        samples: How many samples they were fitted to and judged by.
        left: Why nothing was refitted; empty where something was, or nobody asked.
    """

    model: nn.Module
    settled: nn.Module
    statistics: Statistics
    refits: tuple[Refit, ...] = ()
    samples: int = 0
    left: str = ""


def repair(job: Job, pruned: nn.Module, plan: PruningPlan) -> Repaired:
    """The job's model without a plan's channels, its readers refitted and its statistics chosen by what does it good.

    Reconstructed layers are taken if the network then answers no less like the original on samples that were held out;
    so it never does harm there.

    Args:
        job: The original and its calibration samples.
        pruned: The original without the plan's channels; not changed.
        plan: What was removed.
    """
    settled, statistics = settle(job, pruned, plan)
    plain = Repaired(model=settled, settled=settled, statistics=statistics)
    if not job.recovery.reconstruct or not plan.removed:
        return plain
    try:
        found = processes.from_main(lambda: _reconstructed(job, pruned, plan))
    except (DataError, ModelError) as error:
        return replace(plain, left=error.what)
    best = found.model
    if job.data.source != STAND_IN and any(with_statistics(best)):
        estimated = recalibrate_batchnorm(best, job.calibration)
        if job.likeness(estimated, held_out=True) > job.likeness(best, held_out=True):
            best = estimated
    refits = tuple(refit for refit in found.layers if refit.ridge is not None)
    if not refits:
        return replace(plain, left="no layer came nearer to what it gave before on samples held out")
    if job.likeness(best, held_out=True) < job.likeness(settled, held_out=True):
        return replace(plain, left="it would answer less like the original on samples held out")
    return Repaired(model=best, settled=settled, statistics=statistics, refits=found.layers, samples=found.samples)


def _reconstructed(job: Job, pruned: nn.Module, plan: PruningPlan) -> Reconstruction:
    memory = None if job.scoring.resources is None else job.scoring.resources.memory
    return reconstruct(pruned, job.model, plan, job.calibration, seed=job.seed, memory=memory, progress=job.progress)


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
        estimated = recalibrate_batchnorm(pruned, job.calibration)
        if job.likeness(estimated) >= bare:
            return estimated, "re-estimated"
    kept = kept_channels(job.model, plan, example=job.example)
    matched = match_moments(pruned, job.model, kept, job.calibration)
    if job.likeness(matched) > bare:
        return matched, "matched"
    return pruned, "kept"
