"""What a set of vertices, such as the link of a vertex or an edge, looks like; on rows of bits.

Sets are (words,) bits, graphs (vertices, words) rows of bits, see :mod:`topocompress.topology.bits`.
"""

from __future__ import annotations

import numpy as np

from topocompress.runtime.compiling import compiled
from topocompress.topology.bits import ONE, Bits, clear_bit, highest, lowest, ones

NONE, LAST, OTHERS = 0, 1, 2

_ZERO = np.uint64(0)


@compiled
def has_centre(rows: Bits, link: Bits, candidates: Bits) -> bool:
    """Whether one vertex of ``link`` is joined to all the others; ``candidates`` is overwritten.

    A candidate that misses a member shows which member to strike out candidates with: it misses many of them.
    """
    words = len(link)
    for word in range(words):
        candidates[word] = link[word]
    word = 0
    while word < words:
        if candidates[word] == _ZERO:
            word += 1
            continue
        candidate = (word << 6) + lowest(candidates[word])
        missed = -1
        for place in range(words):
            outside = link[place] & ~rows[candidate, place]
            if place == word:
                outside &= ~(ONE << np.uint64(candidate & 63))
            if outside:
                missed = (place << 6) + lowest(outside)
                break
        if missed < 0:
            return True
        itself = candidates[missed >> 6] & (ONE << np.uint64(missed & 63))
        for place in range(words):
            candidates[place] &= rows[missed, place]
        candidates[missed >> 6] |= itself
    return False


@compiled
def shape_of(rows: Bits, link: Bits, members: Bits, frontier: Bits) -> tuple[int, int]:
    """Independent cycles of the graph that a set of vertices induces (0: a forest), and its components.

    Args:
        rows: The graph.
        link: The set.
        members: Room to work in.
        frontier: Room to work in.
    """
    words = len(link)
    count, ends, parts = 0, 0, 0
    for word in range(words):
        members[word] = link[word]
        left = link[word]
        while left:
            member = (word << 6) + lowest(left)
            left &= left - ONE
            count += 1
            for place in range(words):
                ends += ones(rows[member, place] & link[place])
    while strike_component(rows, members, frontier) != NONE:
        parts += 1
    return ends // 2 - count + parts, parts


@compiled
def strike_component(rows: Bits, members: Bits, frontier: Bits) -> int:
    """Take the component of the last member out of a set.

    Args:
        rows: (vertices, words) rows of bits.
        members: (words,) the set; changed in place.
        frontier: (words,) room to work in.

    Returns:
        Whether there was none, it was the last, or others are left.
    """
    words = len(members)
    vertex = _last(members)
    if vertex < 0:
        return NONE
    clear_bit(members, vertex)
    frontier[:] = _ZERO
    while vertex >= 0:
        rest = _ZERO
        for word in range(words):
            reached = members[word] & rows[vertex, word]
            left = members[word] ^ reached
            members[word] = left
            frontier[word] |= reached
            rest |= left
        if rest == _ZERO:
            return LAST
        vertex = _last(frontier)
        if vertex >= 0:
            clear_bit(frontier, vertex)
    return OTHERS


@compiled
def _last(members: Bits) -> int:
    """The last member, or -1."""
    for word in range(len(members) - 1, -1, -1):
        if members[word]:
            return (word << 6) + highest(members[word])
    return -1
