"""The search for a budget on networks that are there already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from topocompress.errors import PlanError
from topocompress.planning.confidence import upper_loss
from topocompress.planning.selection import Reached, Selection, find_within, larger_plans, step_back
from topocompress.types import GroupPlan, PruningPlan

LIMITS, SIZES, HELD_OUT, SPLITS = (0.5, 1.0, 2.0), (500, 1000, 2000), 2000, 200
FEW, FEW_LIMITS, FEW_SPLITS = (100, 150, 200, 300), (1.0, 2.0, 3.0, 5.0), 1000
"""Images that judge and are held out at once, of a folder that is too small for both; their limits and splits."""
_WHOLE = 1_000_000

Right = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Ways:
    """Two ways to search.

    Attributes:
        exceeded: Share of splits in which more than the limit is really lost, as ``prune`` searches.
        macs: Multiply-accumulates left, median; or how often nothing is within the budget.
        plainly_exceeded: The same where what is measured is taken for what is lost.
        plain_macs: The same.
        understated: Points by which what was measured in the end lies below what is really lost, mean.
    """

    exceeded: float
    macs: str
    plainly_exceeded: float
    plain_macs: str
    understated: float


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    """As much of a selection as the search asks for: the networks that are there."""

    macs: Sequence[int]
    allocation: str = "auto"

    def plan(self, rule: Mapping[str, float]) -> PruningPlan:
        within = [macs for macs in self.macs if macs <= _WHOLE * rule["target_macs"]]
        if not within:
            raise PlanError("out of reach")
        return self._plan(max(within))

    def smallest(self) -> PruningPlan:
        return self._plan(min(self.macs))

    def _plan(self, macs: int) -> PruningPlan:
        # Plans are told apart by their groups.
        group = GroupPlan(root=str(macs), width=1)
        return PruningPlan(model="", rule={}, criterion="", groups=(group,), macs_before=_WHOLE, macs_after=macs)


def simulated(
    networks: Mapping[float, Right], limit: float, judges: int, *, apart: bool = True, splits: int = SPLITS
) -> Ways:
    """Search on many splits.

    Args:
        networks: Share of the multiply-accumulates → (images,) which images a network gets right, 1.0 for the original.
        limit: Points of accuracy that may be lost.
        judges: Images that judge.
        apart: Whether others are held out; else the same images say in the end what is lost.
        splits: How many.
    """
    original = networks[1.0].astype(bool)
    rights = {round(_WHOLE * macs): right.astype(bool) for macs, right in networks.items() if macs < 1}
    sizes = cast("Selection", _Sizes(macs=sorted(rights)))

    def lost(plan: PruningPlan, images: NDArray[np.intp]) -> tuple[int, int]:
        before, after = original[images], rights[plan.macs_after][images]
        return int((before & ~after).sum()), int((after & ~before).sum())

    def points(plan: PruningPlan, images: NDArray[np.intp]) -> float:
        only, gained = lost(plan, images)
        return 100 * (only - gained) / len(images)

    def images(seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        order = np.random.default_rng(seed).permutation(len(original))
        return order[:judges], order[judges : judges + HELD_OUT] if apart else order[:judges]

    def searched(seed: int, *, bound: bool) -> PruningPlan | None:
        judging, held_out = images(seed)
        met: list[PruningPlan] = []

        def measure(plan: PruningPlan) -> Reached:
            only, gained = lost(plan, judging)
            value = 100 * (only - gained) / judges
            upper = 100 * upper_loss(only, gained, judges) if bound else value
            met.extend([plan] if upper <= limit else [])
            return Reached(value=value, upper=upper)

        try:
            found, _ = find_within(sizes, {"max_accuracy_drop": limit}, measure)
        except PlanError:
            return None
        if not bound:
            return found
        met.sort(key=lambda plan: plan.macs_after)

        def losses() -> Iterator[float]:
            yield from [points(plan, held_out) for plan in met]
            for plan in larger_plans(sizes, met[-1]):
                if measure(plan).upper <= limit:  # which notes it
                    yield points(plan, held_out)

        number, _ = step_back(losses(), limit)
        return met[number]

    everything = np.arange(len(original))

    def summary(bound: bool) -> tuple[float, str, float]:
        found = [searched(seed, bound=bound) for seed in range(splits)]
        there = [plan for plan in found if plan is not None]
        exceeded = sum(points(plan, everything) > limit for plan in there) / splits
        measured = [points(plan, images(seed)[1]) for seed, plan in enumerate(found) if plan is not None]
        below = float(np.mean([points(plan, everything) for plan in there]) - np.mean(measured)) if there else 0.0
        left = f"{np.median([plan.macs_after for plan in there]) / _WHOLE:.2f}" if there else "—"
        none = len(found) - len(there)
        return exceeded, left + (f" ({none / splits:.0%} refused)" if none else ""), below

    (exceeded, macs, below), (plainly, plain, _) = summary(True), summary(False)
    return Ways(exceeded=exceeded, macs=macs, plainly_exceeded=plainly, plain_macs=plain, understated=below)
