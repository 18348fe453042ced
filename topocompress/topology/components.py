"""How finely a cloud must be looked at to fall into so many pieces, and what a layer's clouds say together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topocompress.runtime.compiling import compiled
from topocompress.topology.distances import mean_distance, normalised, sharp_squares
from topocompress.topology.scale import Scale

_PLACES = 1024
"""Numbers of a map that tell how its distances are ordered; the median over a layer moves by 0.2 %."""
_WITHOUT = 0.2  # the quantile where all clouds of a layer are single points


def first_look(points: NDArray[np.floating[Any]], scale: Scale, *, device: str = "cpu") -> float:
    """What a scale that follows from a whole layer needs to know of each cloud.

    Args:
        points: (samples, features).
        scale: ``layer`` or ``components``.
        device: Where large products may run, as torch names it.

    Returns:
        For ``layer`` the mean distance; for ``components`` the smallest quantile of the distances at which a share S of
        N pieces or fewer are left, NaN where all samples coincide. Of large maps it takes 1,024 numbers, evenly spaced.
    """
    if scale.kind == "layer":
        return mean_distance(points, device=device)
    cloud, _ = normalised(points[:, :: max(1, points.shape[1] // _PLACES)])
    squares = sharp_squares(cloud, device=device)
    samples = len(cloud)
    merged = samples - max(1, round(scale.values[0] * samples))  # edges of the spanning tree by then
    lengths = np.sort(_tree_lengths(squares)) if samples > 1 else np.zeros(1)
    if not lengths[-1] > 0:
        return math.nan
    near = _count_within(squares, lengths[max(0, merged - 1)])
    return near / (samples * (samples - 1) // 2)


def of_layer(scale: Scale, found: Sequence[float] | NDArray[np.float64]) -> float:
    """A layer's number from the first look at each of its clouds: their mean for ``layer``, else their median."""
    if scale.kind == "layer":
        return math.fsum(found) / len(found)
    known = np.asarray(found, dtype=np.float64)
    known = known[~np.isnan(known)]
    # Three digits: readers are told it, and it is the same however the clouds came.
    return float(f"{np.median(known):.3g}") if len(known) else _WITHOUT


def as_quantile(scale: Scale, layer: float) -> Scale:
    """The ``quantile`` that ``components`` comes to in a layer."""
    return Scale("quantile", (min(layer, 1 - 1e-9),)) if scale.kind == "components" else scale


@compiled
def _tree_lengths(squares: NDArray[Any]) -> NDArray[np.float64]:
    """Squared lengths of the minimum spanning tree (Prim) over the lower triangle of squared distances."""
    samples = len(squares)
    nearest = np.full(samples, np.inf)
    outside = np.ones(samples, np.bool_)
    lengths = np.empty(samples - 1, np.float64)
    newest = 0
    for index in range(samples - 1):
        outside[newest] = False
        least, place = np.inf, 0
        for other in range(samples):
            if outside[other]:
                length = squares[max(newest, other), min(newest, other)]
                nearest[other] = min(nearest[other], length)
                if nearest[other] < least:
                    least, place = nearest[other], other
        lengths[index] = least
        newest = place
    return lengths


@compiled
def _count_within(squares: NDArray[Any], length: float) -> int:
    """Pairs of the lower triangle that are no farther apart."""
    found = 0
    for first in range(len(squares)):
        for second in range(first):
            found += squares[first, second] <= length
    return found
