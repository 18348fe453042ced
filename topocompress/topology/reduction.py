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

from topocompress.runtime.compiling import compiled
from topocompress.topology.bits import ONE, Bits, all_set, clear_bit, has_bit, induced, lowest, ones, set_bit
from topocompress.topology.links import LAST, has_centre, shape_of, strike_component

_ZERO = np.uint64(0)
_SMALL_LINK = 96


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
def _fresh_state(alive: Bits) -> _State:
    sets = np.zeros((5, len(alive)), np.uint64)
    return _State(alive, alive.copy(), sets[0], sets[1], sets[2], sets[3], sets[4])


@compiled
def reduce(rows: Bits, keep_type: bool) -> tuple[Bits, int]:
    """Delete vertices and edges while it is known what that does to the Betti numbers.

    Args:
        rows: (vertices, words) rows of bits; changed in place.
        keep_type: Keep the homotopy type, and so every Betti number. Otherwise only β1 - β0 can be had afterwards.

    Returns:
        The rows of what is left, its vertices numbered anew; and β1 - β0 of the whole minus β1 - β0 of what is left,
        0 with ``keep_type``.
    """
    alive = all_set(len(rows))
    difference = _reduce_vertices(rows, alive, keep_type)
    # With few vertices left, edges are looked at in much shorter rows. Those with many neighbours come last in them,
    # where walks through a link begin: from there they need the fewest steps.
    core = induced(rows, _by_degree(rows, alive))
    alive = all_set(len(core))
    difference += _reduce_edges(core, alive, keep_type)
    return induced(core, _by_degree(core, alive)), difference


@compiled
def _reduce_vertices(rows: Bits, alive: Bits, keep_type: bool) -> int:
    state = _fresh_state(alive)
    order = _by_degree(rows, alive)
    difference = 0
    again = True
    while again:
        again = False
        for vertex in order:
            if has_bit(state.fresh, vertex):
                gone, change = _try_vertex(rows, vertex, state, keep_type)
                difference += change
                again |= gone
    return difference


@compiled
def _reduce_edges(rows: Bits, alive: Bits, keep_type: bool) -> int:
    """Edges, and the vertices that can go once they are gone."""
    state = _fresh_state(alive)
    state.fresh[:] = _ZERO
    state.touched[:] = alive
    difference = 0
    again = True
    while again:
        again = False
        state.now[:] = state.touched
        state.touched[:] = _ZERO
        for vertex in range(len(rows)):
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
def _by_degree(rows: Bits, alive: Bits) -> NDArray[np.int64]:
    """The vertices alive, those with few neighbours first: they go most easily, and take work from the others."""
    vertices, words = rows.shape
    degrees, starts = np.full(vertices, -1, np.int64), np.zeros(vertices + 1, np.int64)
    for vertex in range(vertices):
        if not has_bit(alive, vertex):
            continue
        degree = 0
        for word in range(words):
            degree += ones(rows[vertex, word] & alive[word])
        degrees[vertex] = degree
        starts[degree + 1] += 1
    starts = np.cumsum(starts)
    order = np.empty(starts[-1], np.int64)
    for vertex in range(vertices):
        if degrees[vertex] >= 0:
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
    if not (degree and has_centre(rows, link, state.scratch)):
        if keep_type or degree > _SMALL_LINK:
            return False, 0
        loops, parts = shape_of(rows, link, state.scratch, state.frontier)
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
                if not (filled and has_centre(rows, link, scratch)):
                    continue
            elif filled == _ZERO:
                difference += 1
            elif strike_component(rows, scratch, state.frontier) != LAST:
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
