"""The plan by a rule; found by trying, where the rule is a budget."""

from __future__ import annotations

import itertools
from dataclasses import replace

from torch import nn

from topocompress.planning.rules import BUDGETS, QUALITY
from topocompress.planning.selection import Selection, find_within
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

    def measure(plan: PruningPlan) -> float:
        number, what = next(tries), f"searching: {plan.macs_after / plan.macs_before:.0%} of the MACs"
        job.progress(what, number - 1, number)
        # What is timed must not differ between processes; what is tuned needs them all.
        value = judge(plan) if name in QUALITY else processes.from_main(lambda: judge(plan))
        job.progress(what, number, number)
        if value <= limit:
            within[:] = latest
        return value

    with scratch_folder() as folder:
        judge, samples = judge_of(job, name, limit, finish, folder)
        found, budget = find_within(selection, rule, measure, samples=samples)
    plan = replace(found, rule={**found.rule, name: limit})
    return Choice(plan=plan, budget=budget, made=replace(within[0], plan=plan) if within else None)
