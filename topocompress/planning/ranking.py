"""A group's units in the order in which they should go, and how many of them may."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topocompress.planning.rules import BLOCK, Limits
from topocompress.types import ChannelGroup, Scores

_FULL_ALIGNMENT = 2 * BLOCK


@dataclass(frozen=True, kw_only=True)
class RankedGroup:
    r"""A group's units in the order in which they should go, dead ones first.

    Attributes:
        group: The channel group.
        order: (units,) indices of units, first to go first.
        priority: (units,) mean score of a unit's filters, signed so that higher goes first.
        dead: (units,) True where every scored filter of the unit is dead.
        blocks: Whether ``auto`` keeps whole :data:`~topocompress.planning.rules.BLOCK`\ s where there are two at least.
    """

    group: ChannelGroup
    order: NDArray[np.intp]
    priority: NDArray[np.float64]
    dead: NDArray[np.bool_]
    blocks: bool = False

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.order)

    @property
    def sizes(self) -> NDArray[np.intp]:
        """(units,) channels of the root in each unit."""
        return np.array([len(unit) for unit in self.group.units], dtype=np.intp)

    def above(self, threshold: float) -> int:
        """How many units a threshold asks for, dead ones included."""
        return int((self.dead | (self.priority > threshold)).sum())

    def most(self, max_ratio: float | None) -> int:
        """How many units may go under a ceiling; dead ones go on top of it."""
        if max_ratio is None:
            return self.units
        alive = np.where(self.dead, 0, self.sizes)[self.order]
        return int((np.cumsum(alive) <= max_ratio * self.group.width + 1e-9).sum())

    def step(self, limits: Limits) -> int:
        """The number of units kept must be a multiple of this."""
        sizes = set(self.sizes.tolist())
        if len(sizes) > 1:
            return 1
        align = limits.round_to
        if align == "auto":
            eighth = max(1, self.group.width // 8)
            align = min(_FULL_ALIGNMENT, 1 << (eighth.bit_length() - 1))
            if self.blocks and self.group.width >= 2 * BLOCK:
                align = max(align, BLOCK)
        return int(align) // math.gcd(int(align), *sizes)

    def aligned(self, keep: int, limits: Limits) -> int:
        """The smallest number of units, at least ``keep``, that floor and alignment allow."""
        channels = np.cumsum(self.sizes[self.order][::-1])  # [k]: channels that stay if the last k + 1 units stay
        floor = int((channels < limits.min_channels).sum()) + 1
        step = self.step(limits)
        return min(self.units, step * math.ceil(max(keep, floor) / step))

    def first(self, count: int) -> tuple[int, ...]:
        """The ``count`` units that go first."""
        return tuple(int(unit) for unit in self.order[:count])


def rank(group: ChannelGroup, scores: Scores) -> RankedGroup:
    """Rank a group's units by the mean score of their filters; ties go by index."""
    sign = 1.0 if scores.higher == "remove" else -1.0
    total, count = np.zeros(len(group.units)), np.zeros(len(group.units))
    dead = np.ones(len(group.units), dtype=np.bool_)
    for layer, filters in group.filters.items():
        if layer not in scores.layers:
            continue
        found = scores.layers[layer]
        for unit, channels in enumerate(filters):
            index = list(channels)
            total[unit] += found.values[index].sum()
            count[unit] += len(index)
            dead[unit] &= bool(found.dead[index].all())
    priority = sign * np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    dead &= count > 0
    return RankedGroup(
        group=group, order=np.lexsort((np.arange(len(priority)), -priority, ~dead)), priority=priority, dead=dead
    )
