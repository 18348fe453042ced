"""Reductions of a clique complex that keep its Betti numbers, on rows of bits.

A clique complex at one scale is mostly filling. What follows takes vertices and edges away without building a single
simplex, and knows how the Betti numbers of what is left differ from those of the whole:

- A vertex is *dominated* when some neighbour is joined to all its other neighbours. Deleting it is a strong collapse:
  the homotopy type stays (Barmak & Minian, Discrete Comput. Geom. 47, 2012, doi:10.1007/s00454-011-9357-5).
- An edge is dominated when one common neighbour of its ends is joined to all the others. Deleting it keeps the homotopy
  type too (Boissonnat & Pritam, SoCG 2020, doi:10.4230/LIPIcs.SoCG.2020.19).
- For β0 and β1 alone much weaker conditions do (ours). To delete a simplex is to undo gluing a cone over the join of
  its boundary with its link, and the Mayer-Vietoris sequence of that gluing gives the difference: an *edge* whose
  common neighbours are connected changes neither number; one without common neighbours adds 1 to β1 - β0. A *vertex*
  whose link has c components and no loop adds c - 1 to β1 - β0. β0 is easily counted on the whole graph.

A deleted vertex keeps its row and its bits in other rows; what is still there is told by a set of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from topocompress.compiling import compiled
from topocompress.topology.bits import ONE, Bits, all_set, clear_bit, has_bit, lowest, ones, set_bit

_ZERO = np.uint64(0)
_SMALL_LINK = 96
_NONE, _LAST, _OTHERS = 0, 1, 2


@compiled
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


class _State(NamedTuple):
    """Sets of vertices, each a row of bits. A fresh vertex, or an edge between two touched ones, is to be looked at."""

    alive: Bits
    fresh: Bits
    touched: Bits
    now: Bits
    link: Bits
    scratch: Bits
    frontier: Bits


@compiled
def reduce(rows: Bits, alive: Bits, keep_type: bool) -> int:
    """Delete vertices and edges while it is known what that does to the Betti numbers.

    Args:
        rows: (vertices, words) rows of bits; changed in place.
        alive: (words,) a bit for each vertex, all set; cleared for the vertices that go. Changed in place.
        keep_type: Keep the homotopy type, and so every Betti number. Otherwise only β1 - β0 can be had afterwards.

    Returns:
        β1 - β0 of the whole minus β1 - β0 of what is left; 0 with ``keep_type``.
    """
    words = rows.shape[1]
    sets = np.zeros((4, words), np.uint64)
    state = _State(alive, alive.copy(), alive.copy(), sets[0], sets[1], sets[2], sets[3])
    order = _by_degree(rows)
    difference = 0
    again = True
    while again:
        again = False
        for vertex in order:
            if has_bit(state.fresh, vertex):
                gone, change = _try_vertex(rows, vertex, state, keep_type)
                difference += change
                again |= gone
    again = True
    while again:
        again = False
        state.now[:] = state.touched
        state.touched[:] = _ZERO
        for vertex in order:
            if not has_bit(alive, vertex):
                continue
            if has_bit(state.now, vertex):
                deleted, change = _try_edges(rows, vertex, state, keep_type)
                difference += change
                again |= deleted > 0
            if has_bit(state.fresh, vertex):
                gone, change = _try_vertex(rows, vertex, state, keep_type)
                difference += change
                again |= gone
    return difference


@compiled
def _by_degree(rows: Bits) -> NDArray[np.int64]:
    """The vertices, those with few neighbours first: they go most easily, and take work from the others."""
    vertices, words = rows.shape
    degrees, starts = np.empty(vertices, np.int64), np.zeros(vertices + 1, np.int64)
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


@compiled
def _try_vertex(rows: Bits, vertex: int, state: _State, keep_type: bool) -> tuple[bool, int]:
    """Delete a vertex if it can go; returns whether it went, and the change of β1 - β0."""
    alive, link = state.alive, state.link
    clear_bit(state.fresh, vertex)
    degree = 0
    for word in range(len(link)):
        link[word] = rows[vertex, word] & alive[word]
        degree += ones(link[word])
    change = 0
    if not (degree and _has_centre(rows, link, state.scratch)):
        if keep_type or degree > _SMALL_LINK:
            return False, 0
        loops, parts = _shape_of(rows, link, state)
        if loops:
            return False, 0
        change = parts - 1
    clear_bit(alive, vertex)
    _mark(link, state)
    return True, change


@compiled
def _try_edges(rows: Bits, first: int, state: _State, keep_type: bool) -> tuple[int, int]:
    """Look once at each edge of a vertex that is touched; returns the edges deleted and the change of β1 - β0."""
    alive, link, scratch = state.alive, state.link, state.scratch
    words = len(link)
    deleted = 0
    difference = 0
    clear_bit(state.now, first)
    for word in range(words):
        left = rows[first, word] & state.now[word] & alive[word]
        while left:
            second = (word << 6) + lowest(left)
            left &= left - ONE
            filled = _ZERO
            for place in range(words):
                link[place] = rows[first, place] & rows[second, place] & alive[place]
                scratch[place] = link[place]
                filled |= link[place]
            if keep_type:
                if not (filled and _has_centre(rows, link, scratch)):
                    continue
            elif filled == _ZERO:
                difference += 1
            elif _strike_component(rows, scratch, state.frontier) != _LAST:
                continue
            deleted += 1
            clear_bit(rows[first], second)
            clear_bit(rows[second], first)
            set_bit(link, first)
            set_bit(link, second)
            _mark(link, state)
    return deleted, difference


@compiled
def _mark(vertices: Bits, state: _State) -> None:
    """Have vertices, and the edges between them, looked at again."""
    for word in range(len(vertices)):
        state.fresh[word] |= vertices[word]
        state.touched[word] |= vertices[word]


@compiled
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


@compiled
def _shape_of(rows: Bits, link: Bits, state: _State) -> tuple[int, int]:
    """Independent cycles of the graph that a set of vertices induces (0: a forest), and its components."""
    words = len(link)
    members, ends, parts = 0, 0, 0
    for word in range(words):
        state.scratch[word] = link[word]
        left = link[word]
        while left:
            member = (word << 6) + lowest(left)
            left &= left - ONE
            members += 1
            for place in range(words):
                ends += ones(rows[member, place] & link[place])
    while _strike_component(rows, state.scratch, state.frontier) != _NONE:
        parts += 1
    return ends // 2 - members + parts, parts


@compiled
def _strike_component(rows: Bits, members: Bits, frontier: Bits) -> int:
    """Take the component of the first member out of a set.

    Args:
        rows: (vertices, words) rows of bits.
        members: (words,) the set; changed in place.
        frontier: (words,) room to work in.

    Returns:
        Whether there was none, it was the last, or others are left.
    """
    words = len(members)
    vertex = _first(members)
    if vertex < 0:
        return _NONE
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
            return _LAST
        vertex = _first(frontier)
        if vertex >= 0:
            clear_bit(frontier, vertex)
    return _OTHERS


@compiled
def _first(members: Bits) -> int:
    """The first member, or -1."""
    for word in range(len(members)):
        if members[word]:
            return (word << 6) + lowest(members[word])
    return -1
