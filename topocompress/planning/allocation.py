"""Where to cut: the same loss per multiply-accumulate saved in every group. Pure numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from topocompress.errors import PlanError
from topocompress.planning.ranking import RankedGroup
from topocompress.planning.rules import Allocation, Limits, check_allocation
from topocompress.types import Scores

CEILING = 0.75
"""Largest share of a group that goes under ``global`` unless a ceiling is given: a score is an estimate near the whole
network, and says little of a layer that is nearly gone."""

WIDE = 128
"""Channels of a group from which its network has others to cut than narrow ones: more than these, and narrow groups
keep whole blocks, between which they would save hardly any time (docs/budgets.md)."""

Macs = Callable[[Mapping[str, Sequence[int]]], int]


def check_scores(allocation: Allocation, scores: Scores, target_macs: float | None) -> None:
    """Refuse a global choice for which scores are not fit.

    Raises:
        PlanError: Without a MACs target, or for scores that cannot be compared between layers.
    """
    check_allocation(allocation, {}, scores.comparable, scores.criterion)
    if allocation == "global" and target_macs is None:
        raise PlanError("--allocation global needs a target", hint="Give --target-macs, for example 0.5.")


def least_loss(
    ranked: Sequence[RankedGroup], macs: Macs, target: int, limits: Limits
) -> dict[str, tuple[int, ...]] | None:
    """The units to remove so that at most ``target`` multiply-accumulates stay, at the least price.

    The price of a unit is its squared score over the multiply-accumulates that the network has less without it. All
    units up to one price go; groups are rounded as their alignment asks. With ``auto`` the narrow groups of a network
    that has wide ones (:data:`WIDE`) keep whole blocks, as far as that reaches; in a network of narrow groups alone
    such steps would cost too much accuracy.

    Args:
        ranked: The groups; scores that can be compared between them.
        macs: Multiply-accumulates that stay, by what is removed: root → units.
        target: Multiply-accumulates that may stay.
        limits: Floor, ceiling and alignment.

    Returns:
        Root → units; ``None`` where the target is out of reach.
    """
    if max(entry.group.width for entry in ranked) > WIDE:
        found = _least_loss([replace(entry, blocks=True) for entry in ranked], macs, target, limits)
        if found is not None:
            return found
    return _least_loss(ranked, macs, target, limits)


def _least_loss(
    ranked: Sequence[RankedGroup], macs: Macs, target: int, limits: Limits
) -> dict[str, tuple[int, ...]] | None:
    whole = macs({})
    prices = {entry.group.root: _prices(entry, whole - macs({entry.group.root: entry.first(1)})) for entry in ranked}

    def removals(price: float) -> dict[str, tuple[int, ...]]:
        found = {}
        for entry in ranked:
            ceiling = CEILING if limits.max_ratio is None else limits.max_ratio
            wanted = min(int((prices[entry.group.root] <= price).sum()), entry.most(ceiling))
            found[entry.group.root] = entry.first(entry.units - entry.aligned(entry.units - wanted, limits))
        return found

    steps = np.unique(np.concatenate(list(prices.values())))
    if macs(removals(float(steps[-1]))) > target:
        return None
    low, high = 0, len(steps) - 1  # the least price that is enough; what stays falls with the price
    while low < high:
        middle = (low + high) // 2
        if macs(removals(float(steps[middle]))) <= target:
            high = middle
        else:
            low = middle + 1
    return removals(float(steps[low]))


def _prices(entry: RankedGroup, saved: int) -> NDArray[np.float64]:
    """(units,) in the order of removal, never falling; dead units are free."""
    loss = np.where(entry.dead, 0.0, np.square(entry.priority))[entry.order]
    prices: NDArray[np.float64] = np.maximum.accumulate(loss) / max(1, saved)
    return prices
