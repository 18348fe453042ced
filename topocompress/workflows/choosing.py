"""The plan by a rule; found by trying, where the rule is a budget."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import nn

from topocompress.deploy.measurement import Predictions
from topocompress.planning.rules import BUDGETS, QUALITY
from topocompress.planning.selection import Reached, Selection, find_within, step_back
from topocompress.runtime.temporary import scratch_folder
from topocompress.surgery.removal import apply
from topocompress.training import processes
from topocompress.types import Budget, PruningPlan
from topocompress.workflows.budgets import judge_of
from topocompress.workflows.job import Job
from topocompress.workflows.shrinking import Choice, Shrunk, carry_out, swap


def choose(job: Job, selection: Selection) -> Choice:
    """What to remove by the job's rule.

    Raises:
        PlanError: The rule removes nothing or everything, or is out of reach.
    """
    rule = job.removal.rule
    ((name, limit),) = rule.items()
    if name not in BUDGETS:
        return Choice(plan=selection.plan(rule))
    latest: list[Shrunk] = []
    tried: list[PruningPlan] = []
    within: list[Shrunk] = []  # of accuracy: each that is within it is smaller than those before

    def finish(plan: PruningPlan) -> nn.Module:
        if name in QUALITY:
            latest[:] = [carry_out(job, plan)]
            return latest[0].model
        with job.timed("remove"):
            bare = apply(job.model, plan, example=job.example)  # speed depends on no statistics
        swapped = swap(job, bare)
        return swapped.model if swapped else bare

    tries = itertools.count(1)

    def measure(plan: PruningPlan) -> float | Reached:
        number, what = next(tries), f"searching: {plan.macs_after / plan.macs_before:.0%} of the MACs"
        job.progress(what, number - 1, number)
        # What is timed must not differ between processes; what is tuned needs them all.
        reached = judge(plan) if name in QUALITY else processes.from_main(lambda: judge(plan))
        job.progress(what, number, number)
        if (reached.upper if isinstance(reached, Reached) else reached) <= limit:
            tried.append(plan)
            within[:] = latest
        return reached

    with scratch_folder() as folder:
        judge, samples = judge_of(job, name, limit, finish, folder)
        found, budget = find_within(selection, rule, measure, samples=samples)
    if name not in QUALITY:
        return Choice(plan=replace(found, rule={**found.rule, name: limit}), budget=budget)
    tried.sort(key=lambda plan: plan.macs_after)
    return _kept(job, tried, within[0], replace(budget, apart=job.data.judging is not None))


def _kept(job: Job, plans: Sequence[PruningPlan], smallest: Shrunk, budget: Budget) -> Choice:
    """The smallest of the networks within a budget that is within it on the held-out samples too.

    Args:
        job: Its held-out samples are those that the report is about.
        plans: Of the networks within the budget, the smallest first.
        smallest: The first of them.
        budget: What was found.
    """
    ((name, limit),) = job.removal.rule.items()
    before = job.evaluated(job.model, "evaluating the original")
    latest = [smallest]

    def losses() -> Iterator[float]:
        for plan in plans:
            latest[:] = [smallest if plan is plans[0] else carry_out(job, plan)]
            yield _lost(name, before, job.evaluated(latest[0].model, "evaluating the result"))

    number, kept = step_back(losses(), limit)
    plan = replace(plans[number], rule={**plans[number].rule, name: limit})
    found = replace(budget, stepped_back=number, kept=kept)
    return Choice(plan=plan, budget=found, made=replace(latest[0], plan=plan))


def _lost(name: str, before: Predictions, after: Predictions) -> float:
    if name == "max_metric_drop":
        return (before.metric or 0.0) - (after.metric or 0.0)
    return 100 * ((before.accuracy or 0.0) - (after.accuracy or 0.0))
