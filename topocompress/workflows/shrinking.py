"""From a rule to a smaller network: scored once, within a budget if one was set, in one round or several."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import nn

from topocompress.criteria.base import Criterion
from topocompress.network.capture import EXACT, Maps
from topocompress.planning.allocation import Allocation
from topocompress.planning.rounds import compose, round_plan
from topocompress.planning.rules import BUDGETS, Limits
from topocompress.planning.selection import Selection, find_within
from topocompress.runtime.resources import ANY, Resources
from topocompress.surgery.activations import Swapped
from topocompress.surgery.removal import apply
from topocompress.surgery.trial import prunable_groups
from topocompress.training import processes
from topocompress.training.finetuning import FinetuneResult
from topocompress.types import Budget, GroupPlan, PruningPlan
from topocompress.workflows.budgets import judge_of
from topocompress.workflows.single_steps import layer_costs
from topocompress.workflows.steps import Job, Settled, Statistics, score_job, swap

Tuner = Callable[[Job, nn.Module], FinetuneResult | None]


@dataclass(frozen=True, kw_only=True)
class Shrunk:
    """A smaller network and how it came to be.

    Attributes:
        model: The network; not tuned where no tuning was asked for.
        plan: What was removed of the original, in all rounds.
        bare: The original without it, and nothing else done.
        cut: The same with other BatchNorm statistics; ``bare`` itself where they were left alone.
        statistics: What became of them.
        tunings: Fine-tuning of each round.
        swapped: Activations swapped before the last of them; ``None`` if none were.
    """

    model: nn.Module
    plan: PruningPlan
    bare: nn.Module
    cut: nn.Module
    statistics: Statistics = "kept"
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


@dataclass(frozen=True, kw_only=True)
class Shrinker:
    """How a network is scored, cut and tuned.

    Attributes:
        criterion: What scores its filters.
        tune: Fine-tunes what is left, or does nothing.
        activation: Put in place of plain ones before the last fine-tuning; ``None`` for none.
        rounds: In how many rounds a plan is carried out.
        limits: Floor, ceiling and alignment.
        allocation: Where a share of the multiply-accumulates is cut.
        ignore: Shell-style patterns of layers whose groups stay whole.
        linear: Whether linear layers that see a vector per sample may be pruned too.
        resources: Memory and processes for scoring.
        maps: How feature maps become the points of clouds.
        cache: Where scores are kept and looked up.
        resume: Continue the scoring of an interrupted run.
    """

    criterion: Criterion
    tune: Tuner
    activation: str | None = None
    rounds: int = 1
    limits: Limits = field(default_factory=Limits)
    allocation: Allocation = "uniform"
    ignore: Sequence[str] = ()
    linear: bool = False
    resources: Resources = ANY
    maps: Maps = EXACT
    cache: str | Path | None = None
    resume: bool = False

    def select(self, job: Job) -> Selection:
        """Score the job's model."""
        model = job.loaded.module
        with job.timed("score"):
            groups = prunable_groups(model, job.example, ignore=self.ignore, linear=self.linear)
            scores = score_job(
                job,
                groups,
                self.criterion,
                resources=self.resources,
                maps=self.maps,
                cache=self.cache,
                resume=self.resume,
            )
        return Selection(
            scores=scores,
            groups=groups,
            costs=layer_costs(model, job.example),
            limits=self.limits,
            allocation=self.allocation,
        )

    def choose(self, job: Job, selection: Selection, rule: Mapping[str, float]) -> Choice:
        """The plan by a rule; by trying, where the rule is a budget.

        Raises:
            PlanError: The rule removes nothing or everything, or is out of reach.
        """
        ((name, limit),) = rule.items()
        if name not in BUDGETS:
            return Choice(plan=selection.plan(rule))
        latest: list[Shrunk] = []
        within: list[Shrunk] = []  # of accuracy: each that is within it is smaller than those before

        def finish(plan: PruningPlan) -> nn.Module:
            if name == "max_accuracy_drop":
                latest[:] = [self._round(job, plan, last=True)]
                return latest[0].model
            with job.timed("remove"):
                bare = apply(job.loaded.module, plan, example=job.example)  # speed depends on no statistics
            swapped = swap(job, bare, self.activation)
            return swapped.model if swapped else bare

        tries = itertools.count(1)

        def measure(plan: PruningPlan) -> float:
            number, what = next(tries), f"searching: {plan.macs_after / plan.macs_before:.0%} of the MACs"
            job.progress(what, number - 1, number)
            # What is timed must not differ between processes; what is tuned needs them all.
            value = judge(plan) if name == "max_accuracy_drop" else processes.from_main(lambda: judge(plan))
            job.progress(what, number, number)
            if value <= limit:
                within[:] = latest
            return value

        with tempfile.TemporaryDirectory() as folder:
            judge, samples = judge_of(job, name, limit, finish, Path(folder))
            found, budget = find_within(selection, rule, measure, samples=samples)
        plan = replace(found, rule={**found.rule, name: limit})
        return Choice(plan=plan, budget=budget, made=replace(within[0], plan=plan) if within else None)

    def shrink(self, job: Job, selection: Selection, choice: Choice) -> Shrunk:
        """Remove what was chosen, and tune; in several rounds, each of which chooses the channels anew."""
        if choice.made is not None:
            return choice.made
        if self.rounds == 1:
            return self._round(job, choice.plan, last=True)
        original, done = job, None
        tunings: list[FinetuneResult] = []
        for number in range(1, self.rounds + 1):
            share, last = number / self.rounds, number == self.rounds
            part = round_plan(choice.plan, done, share, selection.scores, selection.groups, selection.costs)
            result = self._round(job, part, last=last)
            tunings += result.tunings
            done = part if done is None else compose(done, part)
            if not last:
                job = replace(job, loaded=replace(job.loaded, module=result.model))
                selection = self.select(job)
        plan = _as_asked(done or choice.plan, choice.plan)
        bare, settled = _removed(original, plan)
        return replace(
            result, plan=plan, bare=bare, cut=settled.model, statistics=settled.statistics, tunings=tuple(tunings)
        )

    def _round(self, job: Job, plan: PruningPlan, *, last: bool) -> Shrunk:
        bare, settled = _removed(job, plan)
        cut = settled.model
        swapped = swap(job, cut, self.activation) if last else None
        model = swapped.model if swapped else cut
        tuned = self.tune(job, model)
        return Shrunk(
            model=tuned.model if tuned else cut,
            plan=plan,
            bare=bare,
            cut=cut,
            statistics=settled.statistics,
            tunings=() if tuned is None else (tuned,),
            swapped=swapped,
        )


def _removed(job: Job, plan: PruningPlan) -> tuple[nn.Module, Settled]:
    """The job's model without a plan's channels, as it is and with BatchNorm statistics that fit it."""
    with job.timed("remove"):
        bare = apply(job.loaded.module, plan, example=job.example)
        return bare, job.recalibrated(bare, plan)


def _as_asked(done: PruningPlan, whole: PruningPlan) -> PruningPlan:
    """What the rounds removed, with what the first scores asked for and found dead."""
    first = {entry.root: entry for entry in whole.groups}

    def noted(entry: GroupPlan) -> GroupPlan:
        dead = tuple(channel for channel in first[entry.root].dead if channel in entry.remove)
        return replace(entry, above=first[entry.root].above, dead=dead)

    return replace(done, groups=tuple(noted(entry) for entry in done.groups))
