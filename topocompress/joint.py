"""Joint removal: the order in which filters go, round by round, so that together they change least. Pure numpy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SHARE = 0.625
"""Share of the filters that the rounds before the last switch off, in equal steps; the last round ranks the rest."""


def least_joint(
    effects: NDArray[np.float64],
    alive: NDArray[np.bool_],
    drift: NDArray[np.float64],
    count: int,
    extra: NDArray[np.float64] | float = 0.0,
) -> list[int]:
    """The ``count`` filters to switch off next, one after the other, each the one that leaves the least change.

    To first order the outputs that have changed by ``drift`` change by minus a filter's effects when it goes. Chosen is
    the filter f with the least Σ (drift - effects of those gone - effects of f)² over the rows, plus ``extra`` of f.

    Args:
        effects: (rows, filters).
        alive: (filters,) which may go.
        drift: (rows,) change so far.
        count: How many go.
        extra: (filters,) what it costs besides if a filter goes; see :func:`extra_cost`.

    Returns:
        Filters in the order in which they go.
    """
    products = effects.T @ effects
    cost = np.diag(products) - 2 * (drift @ effects) + extra
    left, gone = alive.copy(), []
    for _ in range(min(count, int(alive.sum()))):
        chosen = int(np.argmin(np.where(left, cost, np.inf)))
        left[chosen] = False
        gone.append(chosen)
        cost = cost + 2 * products[chosen]
    return gone


def extra_cost(
    effects: NDArray[np.float64],
    norms: NDArray[np.float64],
    alive: NDArray[np.bool_],
    *,
    own: float = 0.0,
    weights: float = 0.0,
) -> NDArray[np.float64]:
    """What a filter costs besides the joint change: its own effect and the norm of its weights.

    In units of the mean over the filters that are left, E of the sums c² = Σ effects², N of the norms n:
    ``own`` · c² + ``weights`` · E · (n / N)².

    Args:
        effects: (rows, filters).
        norms: (filters,) of their weights.
        alive: (filters,) which are left.
        own: How much a filter's own effect counts.
        weights: How much the norm of its weights counts.

    Returns:
        (filters,)
    """
    alone: NDArray[np.float64] = np.square(effects).sum(axis=0)
    found = own * alone
    if weights and alive.any() and (mean := norms[alive].mean()) > 0:
        found = found + weights * alone[alive].mean() * np.square(norms / mean)
    return found


@dataclass
class Removal:
    """What has gone so far from one group of channels.

    Attributes:
        alone: (filters,) each filter judged alone, in the whole network.
        order: Filters in the order in which they went.
    """

    alone: NDArray[np.float64]
    order: list[int] = field(default_factory=list)

    @property
    def on(self) -> NDArray[np.bool_]:
        """(filters,) False where a filter is switched off."""
        kept = np.ones(len(self.alone), dtype=np.bool_)
        kept[self.order] = False
        return kept

    def quota(self, number: int, rounds: int) -> int:
        """How many filters go in round ``number`` (from 0) of ``rounds``."""
        if number == rounds - 1:
            return len(self.alone) - len(self.order)
        return int(len(self.alone) * SHARE * (number + 1) / (rounds - 1) + 1e-9) - len(self.order)

    def scores(self) -> NDArray[np.float64]:
        """(filters,) the sizes of ``alone``, handed out in the order of removal: least to the first to go."""
        found = np.empty_like(self.alone)
        found[self.order] = np.sort(self.alone)
        return found
