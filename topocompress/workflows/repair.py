"""What is done to a network right after removal, without labels: BatchNorm statistics that fit it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from topocompress.data.loading import STAND_IN
from topocompress.network.batchnorm import match_moments, recalibrate_batchnorm, with_statistics
from topocompress.surgery.removal import kept_channels
from topocompress.types import PruningPlan
from topocompress.workflows.job import Job

Statistics = Literal["re-estimated", "matched", "kept"]


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """A pruned network, and what became of its BatchNorm statistics."""

    model: nn.Module
    statistics: Statistics


def repair(job: Job, pruned: nn.Module, plan: PruningPlan) -> Repaired:
    """The job's model without a plan's channels, with statistics that fit what is left.

    Those of the calibration samples, as long as with them the network does not answer less like the original on these.
    Else, and where photographs stand in for the user's images, the trained ones, corrected for what removal changed, if
    that does good; or else just those.

    Args:
        job: The original and its calibration samples.
        pruned: The original without the plan's channels; not changed.
        plan: What was removed.
    """
    if not any(with_statistics(pruned)):
        return Repaired(model=pruned, statistics="kept")
    bare = job.likeness(pruned)
    if job.data.source != STAND_IN:
        estimated = recalibrate_batchnorm(pruned, job.calibration)
        if job.likeness(estimated) >= bare:
            return Repaired(model=estimated, statistics="re-estimated")
    kept = kept_channels(job.model, plan, example=job.example)
    matched = match_moments(pruned, job.model, kept, job.calibration)
    if job.likeness(matched) > bare:
        return Repaired(model=matched, statistics="matched")
    return Repaired(model=pruned, statistics="kept")
