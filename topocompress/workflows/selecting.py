"""A job's channel groups, found and scored: what a plan by any rule is made from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from topocompress.criteria.base import CloudCriterion, Criterion
from topocompress.criteria.registry import create
from topocompress.network.detectors import is_detector
from topocompress.planning.selection import Selection
from topocompress.runtime.resources import ANY
from topocompress.scoring.dispatch import open_store, read_maps
from topocompress.surgery.trial import prunable_groups
from topocompress.training import processes
from topocompress.types import ChannelGroup, Scores
from topocompress.workflows.job import Job
from topocompress.workflows.options import Recovery
from topocompress.workflows.single_steps import layer_costs, score_groups


def select(job: Job) -> Selection:
    """Score the job's model.

    Raises:
        KeyboardInterrupt: As it came; its message says what has been kept.
        TopocompressError: Nothing can be pruned or scored; the message says why.
    """
    with job.timed("find groups", traces=True):
        groups = prunable_groups(job.model, job.example, ignore=job.removal.ignore, linear=job.removal.linear)
    with job.timed("score"):
        scores = score_job(job, groups)
    return Selection(
        scores=scores,
        groups=groups,
        costs=layer_costs(job.model, job.example),
        limits=job.removal.limits,
        allocation=job.removal.allocation,
    )


def score_job(job: Job, groups: Sequence[ChannelGroup]) -> Scores:
    """Score the filters of groups, with what an earlier run has left in the cache.

    Raises:
        KeyboardInterrupt: As it came; its message says what has been kept.
    """
    scoring, criterion, store = job.scoring, criterion_of(job), None
    maps = read_maps(criterion, scoring.maps)
    if job.cache is not None and isinstance(criterion, CloudCriterion):
        store = open_store(Path(job.cache), job.model, criterion, job.data.fingerprint, maps=maps, resume=job.resume)
    try:
        return processes.from_main(
            lambda: score_groups(
                job.model,
                groups,
                criterion,
                job.calibration,
                resources=scoring.resources or ANY,
                maps=maps,
                store=store,
                progress=job.progress,
            )
        )
    except KeyboardInterrupt as error:
        if store is None:
            raise
        raise KeyboardInterrupt("the layers that are finished are kept; --resume continues from there") from error


def criterion_of(job: Job) -> Criterion:
    """What scores the job's filters, as it suits what follows.

    Raises:
        CriterionError: Its name is unknown.
    """
    asked = job.scoring.criterion
    criterion = create(asked) if isinstance(asked, str) else asked
    return suited(criterion, job.recovery, job.model)


def suited(criterion: Criterion, recovery: Recovery, model: nn.Module) -> Criterion:
    """A criterion as it suits what follows removal.

    Args:
        criterion: As it was asked for.
        recovery: What follows.
        model: What is pruned; a detector's layers are not refitted.
    """
    return criterion.suited(reconstructed=recovery.reconstruct and not is_detector(model), tuned=bool(recovery.epochs))
