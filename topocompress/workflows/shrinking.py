"""A plan carried out: channels removed, the network repaired and tuned, in one iteration or several."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from topocompress.network.task import identity_of
from topocompress.planning.iterations import compose, iteration_plan
from topocompress.planning.rules import TOPOLOGICAL
from topocompress.planning.selection import Selection
from topocompress.surgery.activations import Swapped, swap_activations
from topocompress.surgery.removal import apply
from topocompress.training import step
from topocompress.training.finetuning import FinetuneResult
from topocompress.types import Budget, GroupPlan, PruningPlan
from topocompress.workflows.job import Job
from topocompress.workflows.repair import Repaired, repair
from topocompress.workflows.selecting import select


@dataclass(frozen=True, kw_only=True)
class Shrunk:
    """A smaller network and how it came to be.

    Attributes:
        model: The network; not tuned where no tuning was asked for.
        plan: What was removed of the original, in all iterations.
        bare: The original without it, and nothing else done.
        settled: The same with other BatchNorm statistics; ``bare`` itself where they were left alone.
        cut: The network after repair; ``settled`` itself where that changed nothing.
        repaired: What was repaired, and why not more.
        tunings: Fine-tuning of each iteration.
        swapped: Activations swapped before the last of them; ``None`` if none were.
    """

    model: nn.Module
    plan: PruningPlan
    bare: nn.Module
    settled: nn.Module
    cut: nn.Module
    repaired: Repaired
    tunings: tuple[FinetuneResult, ...] = ()
    swapped: Swapped | None = None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What to remove.

    Attributes:
        plan: Of the original.
        budget: How it was found, if by trying.
        made: What the search has made of the plan already.
    """

    plan: PruningPlan
    budget: Budget | None = None
    made: Shrunk | None = None


def shrink(job: Job, selection: Selection, choice: Choice) -> Shrunk:
    """Remove what was chosen, repair and tune; in several iterations, each of which chooses the channels anew."""
    if choice.made is not None:
        return choice.made
    if job.removal.iterations == 1:
        return carry_out(job, choice.plan)
    current, done = job, None
    tunings: list[FinetuneResult] = []
    for number in range(1, job.removal.iterations + 1):
        share, last = number / job.removal.iterations, number == job.removal.iterations
        part = iteration_plan(choice.plan, done, share, selection.scores, selection.groups, selection.costs)
        result = carry_out(current, part, last=last, teacher=job.model)
        tunings += result.tunings
        done = part if done is None else compose(done, part)
        if not last:
            current = replace(current, loaded=replace(job.loaded, module=result.model))
            selection = select(current)
    plan = _as_asked(done or choice.plan, choice.plan)
    whole = removed(job, plan)
    return replace(whole, model=result.model, tunings=(*tunings,), swapped=result.swapped)


def carry_out(job: Job, plan: PruningPlan, *, last: bool = True, teacher: nn.Module | None = None) -> Shrunk:
    """One iteration: remove, repair, swap activations before the last fine-tuning, and tune.

    Args:
        job: The model and what is asked.
        plan: What to remove of it.
        last: Whether no other iteration follows.
        teacher: The unpruned network, for distillation; the job's own by default.
    """
    made = removed(job, plan)
    swapped = swap(job, made.cut) if last else None
    tuned = tune(job, swapped.model if swapped else made.cut, teacher=teacher)
    return replace(
        made, model=tuned.model if tuned else made.cut, tunings=() if tuned is None else (tuned,), swapped=swapped
    )


def removed(job: Job, plan: PruningPlan) -> Shrunk:
    """The job's model without a plan's channels, repaired but not tuned."""
    with job.timed("remove", traces=True):
        bare = apply(job.model, plan, example=job.example)
    with job.timed("repair", traces=True):
        repaired = repair(job, bare, plan)
    model, settled = repaired.model, repaired.settled
    return Shrunk(model=model, plan=plan, bare=bare, settled=settled, cut=model, repaired=repaired)


def swap(job: Job, model: nn.Module) -> Swapped | None:
    """Topological activations in place of plain ones, at amplitude 0; ``None`` if none are asked for.

    Raises:
        ModelError: No activation of the network can be swapped.
    """
    return swap_activations(model, job.example) if job.recovery.activation == TOPOLOGICAL else None


def tune(job: Job, model: nn.Module, *, teacher: nn.Module | None = None) -> FinetuneResult | None:
    """Fine-tune by the job's recipe, from :func:`topocompress.training.step.fitted`; ``None`` if it has no epochs.

    Args:
        job: Its data is trained on; epochs are kept in its cache until the run is finished.
        model: The pruned network; not changed.
        teacher: The unpruned network, to learn from; the job's own by default.

    Raises:
        KeyboardInterrupt: As it came; its message says what has been kept.
    """
    original = job.model if teacher is None else teacher
    recipe = job.recovery.recipe
    if not recipe.epochs:
        return None
    with job.timed("finetune"):
        task = "|".join(filter(None, map(identity_of, (job.loss, job.metric))))
        folder = step.kept(job.cache, model, original, job.data, recipe, job.seed, task)
        if folder is not None:
            job.checkpoints.append(folder)
        return step.tuned(
            model,
            original,
            job.data,
            recipe,
            seed=job.seed,
            folder=folder,
            resume=job.resume,
            progress=job.progress,
            outputs=job.outputs,
            loss=job.loss,
            metric=job.metric,
        )


def _as_asked(done: PruningPlan, whole: PruningPlan) -> PruningPlan:
    """What the iterations removed, with what the first scores asked for and found dead."""
    first = {entry.root: entry for entry in whole.groups}

    def noted(entry: GroupPlan) -> GroupPlan:
        dead = tuple(channel for channel in first[entry.root].dead if channel in entry.remove)
        return replace(entry, above=first[entry.root].above, dead=dead)

    return replace(done, groups=tuple(noted(entry) for entry in done.groups))
