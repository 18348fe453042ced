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
from numpy.typing import NDArray

from topocompress.topology.bits import ONE, Bits, all_set, clear_bit, has_bit, lowest, ones, set_bit

_ZERO = np.uint64(0)
_SMALL_LINK = 96


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
        rows: (vertices, words) rows of bits; changed in place. Deleted vertices keep theirs.
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
    frontier = np.empty(words, np.uint64)
    order = _by_degree(rows)
    difference = 0
    again = True
    while again:
        again = False
        for vertex in order:
            if has_bit(fresh, vertex):
                gone, change = _try_vertex(rows, vertex, alive, fresh, touched, keep_type, link, scratch, frontier)
                difference += change
                again |= gone
    again = True
    while again:
        again = False
        now[:] = touched
        touched[:] = _ZERO
        for vertex in order:
            if not has_bit(alive, vertex):
                continue
            if has_bit(now, vertex):
                deleted, change = _try_edges(rows, vertex, alive, now, fresh, touched, keep_type, link, scratch, frontier)
                difference += change
                again |= deleted > 0
            if has_bit(fresh, vertex):
                gone, change = _try_vertex(rows, vertex, alive, fresh, touched, keep_type, link, scratch, frontier)
                difference += change
                again |= gone
    return difference


@njit(cache=True, nogil=True)
def _by_degree(rows: Bits) -> NDArray[np.int64]:
    """The vertices, those with few neighbours first: they go most easily, and take work from the others."""
    vertices, words = rows.shape
    degrees = np.empty(vertices, np.int64)
    starts = np.zeros(vertices + 1, np.int64)
    for vertex in range(vertices):
        degree = 0
        for word in range(words):
            degree += ones(rows[vertex, word])
        degrees[vertex] = degree
        starts[degree + 1] += 1
    starts = np.cumsum(starts)
    order = np.empty(vertices, np.int64)
    for vertex in range(vertices):
        order[starts[degrees[vertex]]] = vertex
        starts[degrees[vertex]] += 1
    return order


@njit(cache=True, nogil=True)
def _try_vertex(
    rows: Bits, vertex: int, alive: Bits, fresh: Bits, touched: Bits, keep_type: bool, link: Bits, scratch: Bits, frontier: Bits
) -> tuple[bool, int]:
    """Delete a vertex if it can go; returns whether it went, and the change of β1 - β0."""
    words = rows.shape[1]
    clear_bit(fresh, vertex)
    degree = 0
    for word in range(words):
        link[word] = rows[vertex, word] & alive[word]
        degree += ones(link[word])
    change = 0
    if not (degree and _has_centre(rows, link, scratch)):
        if keep_type or degree > _SMALL_LINK:
            return False, 0
        loops, parts = _shape_of(rows, link, scratch, frontier)
        if loops:
            return False, 0
        change = parts - 1
    clear_bit(alive, vertex)
    for word in range(words):
        fresh[word] |= link[word]
        touched[word] |= link[word]
    return True, change


@njit(cache=True, nogil=True)
def _try_edges(
    rows: Bits,
    first: int,
    alive: Bits,
    now: Bits,
    fresh: Bits,
    touched: Bits,
    keep_type: bool,
    link: Bits,
    scratch: Bits,
    frontier: Bits,
) -> tuple[int, int]:
    """Look once at each edge of a vertex whose ends are marked; returns the edges deleted and the change of β1 - β0."""
    words = rows.shape[1]
    deleted = 0
    difference = 0
    clear_bit(now, first)
    for word in range(words):
        left = rows[first, word] & alive[word]
        while left:
            second = (word << 6) + lowest(left)
            left &= left - ONE
            if not has_bit(now, second):
                continue
            size = 0
            for place in range(words):
                link[place] = rows[first, place] & rows[second, place] & alive[place]
                scratch[place] = link[place]
                size += ones(link[place])
            if keep_type:
                if not (size and _has_centre(rows, link, scratch)):
                    continue
            elif size == 0:
                difference += 1
            elif _strike_component(rows, scratch, frontier) != 1:
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
def _has_centre(rows: Bits, link: Bits, candidates: Bits) -> bool:
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


@njit(cache=True, nogil=True)
def _strike_component(rows: Bits, members: Bits, frontier: Bits) -> int:
    """Take the component of the first member out of ``members``.

    Returns:
        0 if there was no member, 1 if none is left, 2 if there are others. ``frontier`` is overwritten.
    """
    words = len(members)
    vertex = _first(members, 0)
    if vertex < 0:
        return 0
    clear_bit(members, vertex)
    frontier[:] = _ZERO
    while vertex >= 0:
        row = rows[vertex]
        rest = _ZERO
        for word in range(words):
            reached = members[word] & row[word]
            left = members[word] ^ reached
            members[word] = left
            frontier[word] |= reached
            rest |= left
        if rest == _ZERO:
            return 1
        vertex = _first(frontier, 0)
        if vertex >= 0:
            clear_bit(frontier, vertex)
    return 2


@njit(cache=True, nogil=True)
def _first(members: Bits, start: int) -> int:
    """The first member from a word on, or -1."""
    for word in range(start, len(members)):
        if members[word]:
            return (word << 6) + lowest(members[word])
    return -1


@njit(cache=True, nogil=True)
def _shape_of(rows: Bits, link: Bits, scratch: Bits, frontier: Bits) -> tuple[int, int]:
    """Independent cycles of the graph that a set of vertices induces (0: a forest), and its components."""
    words = len(link)
    members, ends, parts = 0, 0, 0
    for word in range(words):
        scratch[word] = link[word]
        left = link[word]
        while left:
            member = (word << 6) + lowest(left)
            left &= left - ONE
            members += 1
            for place in range(words):
                ends += ones(rows[member, place] & link[place])
    while _strike_component(rows, scratch, frontier):
        parts += 1
    return ends // 2 - members + parts, parts
