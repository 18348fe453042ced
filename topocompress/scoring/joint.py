"""Joint removal: the order in which filters go, look by look, so that together they change least. Pure numpy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SHARE = 0.625
"""Share of the filters that go at the looks before the last, in equal steps; the last ranks the rest."""


def least_joint(
    effects: NDArray[np.float64],
    alive: NDArray[np.bool_],
    drift: NDArray[np.float64],
    count: int,
    worth: NDArray[np.float64] | float = 0.0,
) -> list[int]:
    """The ``count`` filters to switch off next, one after the other, each the one that leaves the least change.

    To first order the outputs that have changed by ``drift`` change by minus a filter's effects when it goes. Chosen is
    the filter f with the least Σ (drift - effects of those gone - effects of f)² over the rows; its ``worth`` is added.

    Args:
        effects: (rows, filters).
        alive: (filters,) which may go.
        drift: (rows,) change so far.
        count: How many go.
        worth: (filters,) of each by itself, in units of the mean of Σ effects² over those that may go.

    Returns:
        Filters in the order in which they go.
    """
    products = effects.T @ effects
    own = np.diag(products)
    cost = own - 2 * (drift @ effects) + worth * own.mean(where=alive if alive.any() else True)
    left, gone = alive.copy(), []
    for _ in range(min(count, int(alive.sum()))):
        chosen = int(np.argmin(np.where(left, cost, np.inf)))
        left[chosen] = False
        gone.append(chosen)
        cost = cost + 2 * products[chosen]
    return gone


def worth_alone(alone: NDArray[np.float64], norms: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """What filters are worth by themselves: their effect alone, and the norm of their weights.

    Args:
        alone: (filters,) each filter judged alone, in the whole network.
        norms: (filters,) of their weights.
        share: How much the norms count, 0..1.

    Returns:
        (filters,) of mean 1: (1 - share) · alone² / mean of alone² + share · norms² / mean of norms². What is 0 for
        all filters says nothing, and the other counts alone.
    """
    squares = np.square(np.stack([alone, norms]))
    means, shares = squares.mean(axis=1, keepdims=True), np.array([1 - share, share])
    shares[means[:, 0] == 0] = 0
    if not shares.any():
        shares = (means[:, 0] > 0).astype(np.float64)
    found: NDArray[np.float64] = shares @ (squares / np.where(means > 0, means, 1))
    return found / (shares.sum() or 1)


@dataclass
class Removal:
    """What has gone so far from one group of channels.

    Attributes:
        alone: (filters,) each filter judged alone, in the whole network.
        worth: (filters,) what each costs besides the joint change, as :func:`least_joint` takes it.
        order: Filters in the order in which they went.
    """

    alone: NDArray[np.float64]
    worth: NDArray[np.float64] | float = 0.0
    order: list[int] = field(default_factory=list)

    @property
    def on(self) -> NDArray[np.bool_]:
        """(filters,) False where a filter is switched off."""
        kept = np.ones(len(self.alone), dtype=np.bool_)
        kept[self.order] = False
        return kept

    def quota(self, number: int, looks: int) -> int:
        """How many filters go at look ``number`` (from 0) of ``looks``."""
        if number == looks - 1:
            return len(self.alone) - len(self.order)
        return int(len(self.alone) * SHARE * (number + 1) / (looks - 1) + 1e-9) - len(self.order)

    def scores(self) -> NDArray[np.float64]:
        """(filters,) the sizes of ``alone``, handed out in the order of removal: least to the first to go."""
        found = np.empty_like(self.alone)
        found[self.order] = np.sort(self.alone)
        return found
