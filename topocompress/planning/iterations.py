"""Iterative pruning: how many channels each iteration takes, and what the iterations are together. Pure numpy.

How many channels of each group go in the end is decided once, by the first scores; which ones, in every iteration anew.
So the widths are those of a single iteration, and the two can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from topocompress.errors import PlanError
from topocompress.planning.plan import coupled_widths, predict_macs
from topocompress.planning.ranking import RankedGroup, rank
from topocompress.types import ChannelGroup, GroupPlan, LayerCost, PruningPlan, Scores


def iteration_plan(
    whole: PruningPlan,
    before: PruningPlan | None,
    share: float,
    scores: Scores,
    groups: Sequence[ChannelGroup],
    costs: Mapping[str, LayerCost],
) -> PruningPlan:
    """What one iteration removes.

    Args:
        whole: The plan of the original model that all iterations together have the widths of.
        before: What earlier iterations have removed of the original; ``None`` for the first.
        share: Share of ``whole`` that is gone after this iteration, 0..1.
        scores: Scores of what the earlier iterations left.
        groups: Its channel groups.
        costs: Its multiply-accumulates per layer.

    Returns:
        A plan of what the earlier iterations left; it may be empty.
    """
    asked = {entry.root: len(entry.remove) for entry in whole.groups}
    done = {entry.root: len(entry.remove) for entry in before.groups} if before is not None else {}
    removals: dict[str, tuple[int, ...]] = {}
    for group in groups:
        wanted = round(asked.get(group.root, 0) * share) - done.get(group.root, 0)
        removals[group.root] = () if group.protected or wanted < 1 else _units(rank(group, scores), wanted)
    return replace(
        whole,
        model=scores.model,
        groups=tuple(_removing(group, removals[group.root]) for group in groups),
        macs_before=sum(cost.macs for cost in costs.values()),
        macs_after=predict_macs(costs, groups, removals),
    )


def compose(first: PruningPlan, second: PruningPlan) -> PruningPlan:
    """One plan that removes what two remove one after the other.

    Args:
        first: The plan of a model.
        second: A plan of what ``first`` leaves of it.

    Returns:
        A plan of the model of ``first``, with its rule and criterion.

    Raises:
        PlanError: The second is not of what the first leaves.
    """
    later = {entry.root: entry for entry in second.groups}
    left = {entry.root: entry.kept for entry in first.groups}
    if left != {root: entry.width for root, entry in later.items()}:
        wrong = [root for root, width in left.items() if root not in later or later[root].width != width]
        raise PlanError(
            f"the second plan is not of what the first leaves: {', '.join(wrong or set(later) - set(left))}"
        )
    return replace(
        first, groups=tuple(_both(entry, later[entry.root]) for entry in first.groups), macs_after=second.macs_after
    )


def _units(ranked: RankedGroup, channels: int) -> tuple[int, ...]:
    """The units that go first, whole, as many as make up no more than so many channels."""
    return ranked.first(int((np.cumsum(ranked.sizes[ranked.order]) <= channels).sum()))


def _removing(group: ChannelGroup, units: Sequence[int]) -> GroupPlan:
    return GroupPlan(
        root=group.root,
        width=group.width,
        remove=tuple(sorted(channel for unit in units for channel in group.units[unit])),
        part=group.part,
        coupled=group.coupled,
        also=group.also,
        protected=group.protected,
        **coupled_widths(group, set(units)),
    )


def _both(first: GroupPlan, second: GroupPlan) -> GroupPlan:
    if not second.remove:
        return first
    kept = sorted(set(range(first.width)) - set(first.remove))
    return replace(
        first,
        remove=tuple(sorted((*first.remove, *(kept[channel] for channel in second.remove)))),
        filters={name: (before, second.filters[name][1]) for name, (before, _) in first.filters.items()},
        readers={name: (before, second.readers[name][1]) for name, (before, _) in first.readers.items()},
    )
