"""The same widths chosen otherwise: what tells whether a criterion's choice was any good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from topocompress.planning.plan import coupled_widths
from topocompress.planning.ranking import rank
from topocompress.types import ChannelGroup, GroupPlan, PruningPlan, Scores


def matched_plan(plan: PruningPlan, groups: Sequence[ChannelGroup], scores: Scores) -> PruningPlan:
    """A plan that removes as many channels of every group as ``plan`` does, chosen by other scores.

    Args:
        plan: The plan to match.
        groups: The groups it was made of.
        scores: Scores of the same layers by another criterion.
    """
    by_root = {group.root: group for group in groups}

    def other(entry: GroupPlan) -> GroupPlan:
        if not entry.remove:
            return entry
        group, gone = by_root[entry.root], set(entry.remove)
        count = sum(set(unit) <= gone for unit in group.units)
        units = rank(group, scores).first(count)
        remove = tuple(sorted(c for unit in units for c in group.units[unit]))
        return replace(entry, remove=remove, dead=(), above=0, **coupled_widths(group, units))

    return replace(plan, criterion=scores.criterion, groups=tuple(other(entry) for entry in plan.groups))
