"""What one scoring of a model allows: plans by any rule, and the search for one within a budget. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from topocompress.errors import PlanError
from topocompress.planning.plan import make_plan
from topocompress.planning.rules import QUALITY, Allocation, Limits, option
from topocompress.types import Budget, ChannelGroup, LayerCost, Probe, PruningPlan, Scores

_PROBES = 7
_CLOSE = 0.02
"""A search ends with a try that meets the budget and falls short of it by no more than this share of it."""

_LARGER = 3
"""Networks tried beyond those of a search, where none of them is within its budget on other samples."""
_EVERYTHING = 1 - 1e-9
"""Ratio at which limits alone say what stays."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Scores and everything else that a plan depends on, but for the rule.

    Attributes:
        scores: Scores of the filters.
        groups: Channel groups of the same model.
        costs: Multiply-accumulates per layer of the same model.
        limits: Floor, ceiling and alignment.
        allocation: Where a share of the multiply-accumulates is cut.
    """

    scores: Scores
    groups: Sequence[ChannelGroup]
    costs: Mapping[str, LayerCost]
    limits: Limits
    allocation: Allocation = "auto"

    def plan(self, rule: Mapping[str, float]) -> PruningPlan:
        """The plan by a rule, ``max_betti``, ``ratio`` or ``target_macs``, as {name: value}.

        Raises:
            PlanError: As :func:`topocompress.planning.plan.make_plan`.
        """
        return make_plan(self.scores, self.groups, self.costs, limits=self.limits, allocation=self.allocation, **rule)

    def smallest(self) -> PruningPlan:
        """The plan that removes all that limits allow."""
        return make_plan(self.scores, self.groups, self.costs, limits=self.limits, ratio=_EVERYTHING)


@dataclass(frozen=True, kw_only=True)
class Reached:
    """What a plan reaches, measured on samples.

    Attributes:
        value: In the unit of the limit.
        upper: Upper end of its confidence interval, which must be within the limit.
    """

    value: float
    upper: float


def find_within(
    selection: Selection,
    rule: Mapping[str, float],
    measure: Callable[[PruningPlan], float | Reached],
    *,
    samples: int = 0,
) -> tuple[PruningPlan, Budget]:
    """The plan within a budget, by bisection over the share of multiply-accumulates that is left.

    For a latency or a size it is the largest network tried that meets it; for an accuracy drop the smallest.

    Args:
        selection: What can be planned.
        rule: ``max_accuracy_drop``, ``target_latency`` or ``target_size``, as {name: limit}.
        measure: What a plan reaches, in the unit of the limit.
        samples: Samples behind the measure, for the record.

    Raises:
        PlanError: The budget is out of reach; the message says what can be reached.
    """
    ((name, limit),) = rule.items()
    tries = _Tries(measure=measure, limit=limit)
    smallest = selection.smallest()
    largest_wanted = name not in QUALITY
    if largest_wanted and not tries.probe(smallest).met:
        raise _out_of_reach(name, limit, tries.probes)
    low, high = smallest.macs_after / smallest.macs_before, 1.0
    for _ in range(_PROBES):
        middle = (low + high) / 2
        try:
            plan = selection.plan({"target_macs": middle})
        except PlanError:  # more than is ever left, or less than --allocation global reaches
            low, high = (middle, high) if _reached(selection, middle) else (low, middle)
            continue
        probe = tries.probe(plan)
        if probe.met and largest_wanted and probe.value >= limit * (1 - _CLOSE):
            break
        low, high = (middle, high) if probe.met == largest_wanted else (low, middle)
    found = tries.best(largest=largest_wanted)
    if found is None:
        raise _out_of_reach(name, limit, tries.probes)
    return found, Budget(option=option(name), limit=limit, probes=tuple(tries.probes), samples=samples)


def probe_of(plan: PruningPlan, found: float | Reached, limit: float) -> Probe:
    """The record of a try: what a plan reaches, held against a limit."""
    value, upper = (found.value, found.upper) if isinstance(found, Reached) else (found, None)
    met = (value if upper is None else upper) <= limit
    return Probe(macs=plan.macs_after / plan.macs_before, value=value, met=met, upper=upper)


def larger_plans(selection: Selection, plan: PruningPlan) -> Iterator[PruningPlan]:
    """A few plans that leave more, each half of what the one before removes, as far as there are such."""
    share = plan.macs_after / plan.macs_before
    for _ in range(_LARGER):
        share = (share + 1) / 2
        try:
            yield selection.plan({"target_macs": share})
        except PlanError:  # nothing can be removed that leaves so much
            return


def step_back(lost: Iterable[float], limit: float) -> tuple[int, bool]:
    """Which of several networks to take, and whether it is within the budget.

    Args:
        lost: What each loses on other samples than those that chose them, the smallest network first; asked for only
            as far as needed.
        limit: The budget.

    Returns:
        The first that is within it, else the last.
    """
    number = -1
    for number, value in enumerate(lost):
        if value <= limit:
            return number, True
    return number, False


def _reached(selection: Selection, share: float) -> bool:
    """Whether the same share of every group would leave so many multiply-accumulates."""
    if selection.allocation != "global":
        return False
    try:
        replace(selection, allocation="uniform").plan({"target_macs": share})
    except PlanError:
        return False
    return True


@dataclass(kw_only=True)
class _Tries:
    measure: Callable[[PruningPlan], float | Reached]
    limit: float
    plans: list[PruningPlan] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)

    def probe(self, plan: PruningPlan) -> Probe:
        """Try a plan, unless one that removes the same has been tried."""
        for tried, probe in zip(self.plans, self.probes, strict=True):
            if tried.groups == plan.groups:
                return probe
        self.probes.append(probe_of(plan, self.measure(plan), self.limit))
        self.plans.append(plan)
        return self.probes[-1]

    def best(self, *, largest: bool) -> PruningPlan | None:
        met = [plan for plan, probe in zip(self.plans, self.probes, strict=True) if probe.met]
        choose = max if largest else min
        return choose(met, key=lambda plan: plan.macs_after, default=None)


def _out_of_reach(name: str, limit: float, probes: Sequence[Probe]) -> PlanError:
    if not probes:
        return PlanError(
            "nothing can be removed within --min-channels, --max-ratio and --round-to", hint="Relax one of them."
        )
    if name in QUALITY:
        mildest = max(probes, key=lambda probe: probe.macs)
        least = min(probes, key=lambda probe: probe.value)
        if mildest.upper is not None and mildest.value <= limit:
            return PlanError(
                f"{option(name)} {limit:g} cannot be shown to be kept: with {mildest.macs:.1%} of the "
                f"multiply-accumulates left {max(0.0, mildest.value):.3g} points are gone, but up to "
                f"{mildest.upper:.3g} may be, as far as so few labelled images tell",
                hint="Give more of them (--val-data FOLDER), or allow a larger drop.",
            )
        return PlanError(
            f"{option(name)} {limit:g} is out of reach: with {mildest.macs:.1%} of the multiply-accumulates left, "
            f"{mildest.value:.3g}{' points' * (name == QUALITY[0])} are gone"
            f"{'' if mildest.upper is None else f', and it may be {mildest.upper:.3g}, judged on so few samples'}; the "
            f"least of {len(probes)} tries is {least.value:.3g}",
            hint="Add epochs of fine-tuning with --finetune, choose another --criterion, or allow a larger drop."
            + " More labelled images make the judgement surer." * (mildest.upper is not None),
        )
    reached = probes[0].value
    first, highest = (f"{reached:.3g} of the original's latency", "1")
    if name == "target_size":
        first, highest = f"{reached / 1e6:.3g} MB", "the original's size"
    asked = f"{limit / 1e6:.3g}MB" if name == "target_size" else f"{limit:g}"
    return PlanError(
        f"{option(name)} {asked} is out of reach: with all removed that may be, {first} is left; anything from there "
        f"to {highest} can be asked for",
        hint="Raise it, or relax --min-channels, --max-ratio, --round-to or --ignore.",
    )
