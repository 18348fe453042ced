"""Loops of a small clique complex by elimination: the rank of its triangles over the field with two elements."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from topocompress.runtime.compiling import compiled
from topocompress.topology.bits import ONE, Bits, lowest, set_bit


@compiled
def loops_minus_parts(rows: Bits) -> int:
    """β1 - β0 of the clique complex of a graph: its edges minus its vertices minus the rank of its triangles.

    Time and memory grow with the square of the number of edges.

    Args:
        rows: (vertices, words) rows of bits.
    """
    vertices, words = rows.shape
    edges = 0
    number = np.empty((vertices, vertices), np.int32)
    for first in range(vertices):
        for second in range(first + 1, vertices):
            if (rows[first, second >> 6] >> np.uint64(second & 63)) & ONE:
                number[first, second] = edges
                edges += 1
    rank = 0
    column = np.zeros((edges + 63) >> 6, np.uint64)
    pivots = np.full(edges, -1, np.int32)  # which kept column has its highest edge here
    kept = np.empty((edges, len(column)), np.uint64)
    for first in range(vertices):
        for second in range(first + 1, vertices):
            if not (rows[first, second >> 6] >> np.uint64(second & 63)) & ONE:
                continue
            for word in range(second >> 6, words):
                left = rows[first, word] & rows[second, word]
                while left:
                    third = (word << 6) + lowest(left)
                    left &= left - ONE
                    if third <= second:
                        continue
                    set_bit(column, number[first, second])
                    set_bit(column, number[first, third])
                    set_bit(column, number[second, third])
                    highest = _eliminate(column, kept, pivots, number[second, third] >> 6)
                    if highest >= 0:
                        kept[rank] = column
                        pivots[highest] = rank
                        rank += 1
                        column[:] = np.uint64(0)
    return int(edges - vertices - rank)


@compiled
def _eliminate(column: Bits, kept: NDArray[np.uint64], pivots: NDArray[np.int32], top: int) -> int:
    """Reduce a boundary by those kept before; returns its highest edge, or -1 if nothing is left of it."""
    word = top
    while word >= 0:
        if column[word] == np.uint64(0):
            word -= 1
            continue
        place = 63
        while not (column[word] >> np.uint64(place)) & ONE:
            place -= 1
        highest = (word << 6) + place
        if pivots[highest] < 0:
            return highest
        other = kept[pivots[highest]]
        for index in range(word + 1):
            column[index] ^= other[index]
    return -1
