"""Graphs of hops between nearest neighbours, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from topocompress.runtime.compiling import compiled
from topocompress.topology.bits import ONE, Bits, clear_bit, lowest, set_bit


@compiled
def hop_rows(distances: NDArray[np.floating[Any]], neighbours: int, hops: int) -> Bits:
    """Join samples that are at most so many hops apart in the graph of nearest neighbours, taken both ways.

    Args:
        distances: (samples, samples) in any monotone unit; the diagonal is ignored.
        neighbours: How many nearest neighbours a sample has, fewer than there are samples; of equally near ones the
            first count.
        hops: At least 1.

    Returns:
        (samples, words) rows of bits.
    """
    samples = len(distances)
    near = np.zeros((samples, (samples + 63) >> 6), np.uint64)
    values = np.empty(neighbours, distances.dtype)
    places = np.empty(neighbours, np.int64)
    for first in range(samples):
        found = 0
        for second in range(samples):
            value = distances[first, second]
            if second == first or (found == neighbours and value >= values[found - 1]):
                continue
            place = min(found, neighbours - 1)
            while place and values[place - 1] > value:
                values[place], places[place] = values[place - 1], places[place - 1]
                place -= 1
            values[place], places[place] = value, second
            found = min(found + 1, neighbours)
        for place in range(found):
            set_bit(near[first], places[place])
            set_bit(near[places[place]], first)
    reached = near.copy()
    for _ in range(hops - 1):
        before = reached.copy()
        for first in range(samples):
            for word in range(near.shape[1]):
                left = near[first, word]
                while left:
                    reached[first] |= before[(word << 6) + lowest(left)]
                    left &= left - ONE
    for first in range(samples):
        clear_bit(reached[first], first)
    return reached
