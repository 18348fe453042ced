"""The plan by a rule; found by trying, where the rule is a budget."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from torch import nn

from topocompress.planning.rules import BUDGETS, QUALITY
from topocompress.planning.selection import Reached, Selection, find_within, larger_plans, probe_of, step_back
from topocompress.reporting.budgets import lost_of
from topocompress.runtime.temporary import scratch_folder
from topocompress.surgery.removal import apply
from topocompress.training import processes
from topocompress.types import PruningPlan
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
        with job.timed("remove", traces=True):
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
        if probe_of(plan, reached, limit).met:
            tried.append(plan)
            within[:] = latest
        return reached

    with scratch_folder() as folder:
        judge, samples = judge_of(job, name, limit, finish, folder)
        found, budget = find_within(selection, rule, measure, samples=samples)
    if name not in QUALITY:
        return Choice(plan=replace(found, rule={**found.rule, name: limit}), budget=budget)
    tried.sort(key=lambda plan: plan.macs_after)
    before, probes = job.evaluated(job.model, "evaluating the original"), list(budget.probes)

    def losses() -> Iterator[float]:
        """Of what is within the budget on the held-out samples, which the report is about, the smallest first."""
        for plan in tried:
            latest[:] = [within[0] if plan is tried[0] else carry_out(job, plan)]
            yield lost_of(budget.option, before, job.evaluated(latest[0].model, "evaluating the result"))
        for plan in larger_plans(selection, tried[-1]):
            probes.append(probe_of(plan, measure(plan), limit))
            if probes[-1].met:
                yield lost_of(budget.option, before, job.evaluated(latest[0].model, "evaluating the result"))

    number, kept = step_back(losses(), limit)
    if not kept:  # what was tried last need not be what was within it
        latest[:] = [carry_out(job, tried[number])]
    plan = replace(tried[number], rule={**tried[number].rule, name: limit})
    apart = job.data.judging is not None
    budget = replace(budget, probes=tuple(probes), apart=apart, stepped_back=number, kept=kept)
    return Choice(plan=plan, budget=budget, made=replace(latest[0], plan=plan))
