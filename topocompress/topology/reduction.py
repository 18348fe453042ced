"""Reductions of a clique complex that keep its Betti numbers, on rows of bits.

A clique complex at one scale is mostly filling. What follows takes vertices and edges away without building a single
simplex, and knows how the Betti numbers of what is left differ from those of the whole:

- A vertex is *dominated* when some neighbour is joined to all its other neighbours. Deleting it is a strong collapse:
  the homotopy type stays (Barmak & Minian, Discrete Comput. Geom. 47, 2012, doi:10.1007/s00454-011-9357-5).
- An edge is dominated when one common neighbour of its ends is joined to all the others. Deleting it keeps the homotopy
  type too (Boissonnat & Pritam, SoCG 2020, doi:10.4230/LIPIcs.SoCG.2020.19).
- For β0 and β1 alone much weaker conditions do (ours). To delete a simplex is to undo gluing a cone over the join of
  its boundary with its link, and the Mayer-Vietoris sequence of that gluing gives the difference: an *edge* whose common
  neighbours are connected changes neither number; one without common neighbours adds 1 to β1 - β0. A *vertex* whose
  link has c components and no loop adds c - 1 to β1 - β0. β0 is easily counted on the whole graph.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from topocompress.topology.bits import ONE, Bits, all_set, clear_bit, has_bit, lowest, ones, set_bit

_ZERO = np.uint64(0)
_SMALL_LINK = 96
_FEW = 2


@njit(cache=True, nogil=True)
def count_components(rows: Bits) -> int:
    """Connected components of a graph.

    Args:
        rows: (vertices, words) rows of bits.
    """
    vertices, words = rows.shape
    unseen = all_set(vertices)
    stack = np.empty(vertices, np.int64)
    found = 0
    for start in range(vertices):
        if not has_bit(unseen, start):
            continue
        found += 1
        clear_bit(unseen, start)
        stack[0] = start
        top = 1
        while top:
            top -= 1
            row = rows[stack[top]]
            for word in range(words):
                new = row[word] & unseen[word]
                unseen[word] &= ~new
                while new:
                    stack[top] = (word << 6) + lowest(new)
                    top += 1
                    new &= new - ONE
    return found


@njit(cache=True, nogil=True)
def reduce(rows: Bits, alive: Bits, keep_type: bool) -> int:
    """Delete vertices and edges while it is known what that does to the Betti numbers.

    Args:
        rows: (vertices, words) rows of bits; changed in place.
        alive: (words,) a bit for each vertex, all set; cleared for the vertices that go. Changed in place.
        keep_type: Keep the homotopy type, and so every Betti number. Otherwise only β1 - β0 can be had afterwards.

    Returns:
        β1 - β0 of the whole minus β1 - β0 of what is left; 0 with ``keep_type``.
    """
    vertices, words = rows.shape
    # Whose link has changed since it was last looked at: of vertices, and of edges (both ends then are marked).
    fresh = alive.copy()
    touched = alive.copy()
    now = np.empty(words, np.uint64)
    link = np.empty(words, np.uint64)
    scratch = np.empty(words, np.uint64)
    difference = 0
    again = True
    while again:
        again = False
        for vertex in range(vertices):
            if has_bit(fresh, vertex):
                gone, change = _try_vertex(rows, vertex, alive, fresh, touched, keep_type, link, scratch)
                difference += change
                again |= gone
    again = True
    while again:
        again = False
        now[:] = touched
        touched[:] = _ZERO
        for vertex in range(vertices):
            if not has_bit(alive, vertex):
                continue
            if has_bit(now, vertex):
                deleted, change = _try_edges(rows, vertex, now, fresh, touched, keep_type, link, scratch)
                difference += change
                again |= deleted > 0
            if has_bit(fresh, vertex):
                gone, change = _try_vertex(rows, vertex, alive, fresh, touched, keep_type, link, scratch)
                difference += change
                again |= gone
    return difference


@njit(cache=True, nogil=True)
def _try_vertex(
    rows: Bits, vertex: int, alive: Bits, fresh: Bits, touched: Bits, keep_type: bool, link: Bits, scratch: Bits
) -> tuple[bool, int]:
    """Delete a vertex if it can go; returns whether it went, and the change of β1 - β0."""
    words = rows.shape[1]
    clear_bit(fresh, vertex)
    degree = 0
    for word in range(words):
        degree += ones(rows[vertex, word])
    change = 0
    if not (degree and _is_dominated(rows, vertex, link)):
        if keep_type or degree > _SMALL_LINK:
            return False, 0
        loops, parts = _link_of_vertex(rows, vertex, link, scratch)
        if loops:
            return False, 0
        change = parts - 1
    clear_bit(alive, vertex)
    for word in range(words):
        left = rows[vertex, word]
        rows[vertex, word] = _ZERO
        fresh[word] |= left
        touched[word] |= left
        while left:
            neighbour = (word << 6) + lowest(left)
            left &= left - ONE
            clear_bit(rows[neighbour], vertex)
    return True, change


@njit(cache=True, nogil=True)
def _try_edges(
    rows: Bits, first: int, now: Bits, fresh: Bits, touched: Bits, keep_type: bool, link: Bits, scratch: Bits
) -> tuple[int, int]:
    """Look once at each edge of a vertex whose ends are marked; returns the edges deleted and the change of β1 - β0."""
    words = rows.shape[1]
    deleted = 0
    difference = 0
    for word in range(first >> 6, words):
        left = rows[first, word]
        while left:
            second = (word << 6) + lowest(left)
            left &= left - ONE
            if second < first or not has_bit(now, second):
                continue
            size = 0
            for place in range(words):
                link[place] = rows[first, place] & rows[second, place]
                scratch[place] = link[place]
                size += ones(link[place])
            if keep_type:
                if not (size and _narrow(rows, link, scratch, size)):
                    continue
            elif size == 0:
                difference += 1
            elif not _is_connected(rows, scratch):
                continue
            deleted += 1
            clear_bit(rows[first], second)
            clear_bit(rows[second], first)
            set_bit(link, first)
            set_bit(link, second)
            for place in range(words):
                fresh[place] |= link[place]
                touched[place] |= link[place]
    return deleted, difference


@njit(cache=True, nogil=True)
def _is_dominated(rows: Bits, vertex: int, candidates: Bits) -> bool:
    """Whether some neighbour is joined to all the vertex's other neighbours; ``candidates`` is overwritten."""
    size = 0
    for word in range(rows.shape[1]):
        candidates[word] = rows[vertex, word]
        size += ones(candidates[word])
    return _narrow(rows, rows[vertex], candidates, size)


@njit(cache=True, nogil=True)
def _narrow(rows: Bits, link: Bits, candidates: Bits, size: int) -> bool:
    """Whether one of ``candidates`` (of which there are ``size``) is joined to all others of ``link``.

    Member after member of the link strikes out the candidates that it is not joined to, which soon leaves a few; those
    are compared with the whole link.
    """
    words = rows.shape[1]
    for word in range(words):
        left = link[word]
        while left:
            if size <= _FEW:
                return _any_covers(rows, link, candidates)
            bit = left & (~left + ONE)
            member = (word << 6) + lowest(left)
            left &= left - ONE
            itself = candidates[word] & bit
            size = 0
            for place in range(words):
                candidates[place] &= rows[member, place]
                size += ones(candidates[place])
            if itself:
                candidates[word] |= itself
                size += 1
            if size == 0:
                return False
    return size > 0


@njit(cache=True, nogil=True)
def _any_covers(rows: Bits, link: Bits, candidates: Bits) -> bool:
    words = rows.shape[1]
    for word in range(words):
        left = candidates[word]
        while left:
            candidate = (word << 6) + lowest(left)
            left &= left - ONE
            missed = _ZERO
            for place in range(words):
                outside = link[place] & ~rows[candidate, place]
                if place == candidate >> 6:
                    outside &= ~(ONE << np.uint64(candidate & 63))
                missed |= outside
                if missed:
                    break
            if missed == _ZERO:
                return True
    return False


@njit(cache=True, nogil=True)
def _is_connected(rows: Bits, members: Bits) -> bool:
    """Whether a non-empty set of vertices induces a connected graph; ``members`` is overwritten."""
    return _strike_component(rows, members) and not _any(members)


@njit(cache=True, nogil=True)
def _any(members: Bits) -> bool:
    for word in range(len(members)):
        if members[word]:
            return True
    return False


@njit(cache=True, nogil=True)
def _strike_component(rows: Bits, members: Bits) -> bool:
    """Take the component of the first member out of ``members``; False if there is no member."""
    words = rows.shape[1]
    vertex = -1
    for word in range(words):
        if members[word]:
            vertex = (word << 6) + lowest(members[word])
            break
    if vertex < 0:
        return False
    clear_bit(members, vertex)
    frontier = np.zeros(words, np.uint64)
    while vertex >= 0:
        rest = _ZERO
        following = -1
        for word in range(words):
            reached = members[word] & rows[vertex, word]
            members[word] &= ~reached
            frontier[word] |= reached
            rest |= members[word]
            if following < 0 and frontier[word]:
                following = (word << 6) + lowest(frontier[word])
        if rest == _ZERO:
            return True
        vertex = following
        if vertex >= 0:
            clear_bit(frontier, vertex)
    return True


@njit(cache=True, nogil=True)
def _link_of_vertex(rows: Bits, vertex: int, link: Bits, scratch: Bits) -> tuple[int, int]:
    """Independent cycles of the graph that the neighbours induce (0: a forest), and its components."""
    words = rows.shape[1]
    members, ends, parts = 0, 0, 0
    for word in range(words):
        link[word] = rows[vertex, word]
        scratch[word] = link[word]
    for word in range(words):
        left = link[word]
        while left:
            member = (word << 6) + lowest(left)
            left &= left - ONE
            members += 1
            for place in range(words):
                ends += ones(rows[member, place] & link[place])
    while _strike_component(rows, scratch):
        parts += 1
    return ends // 2 - members + parts, parts
