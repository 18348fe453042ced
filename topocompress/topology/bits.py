"""Graphs as rows of bits, compiled: neighbourhoods are intersected 64 vertices at a time.

Bit ``j % 64`` of word ``j // 64`` of row ``i`` says whether vertices i and j are joined. Rows are symmetric and the
diagonal is empty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from topocompress.runtime.compiling import compiled, inlined

Bits = NDArray[np.uint64]
"""(vertices, ceil(vertices / 64)) rows of a graph."""

ONE = np.uint64(1)


def _lowest(_context: Any, _word: Any) -> Any:
    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


def _highest(_context: Any, _word: Any) -> Any:
    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        zeros = builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 1))
        return builder.sub(ir.Constant(ir.IntType(64), 63), zeros)

    return types.int64(types.uint64), generate


def _ones(_context: Any, _word: Any) -> Any:
    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


lowest: Callable[[np.uint64], int] = cast("Any", intrinsic(_lowest))
"""Place of the lowest 1 of a word that is not 0."""

highest: Callable[[np.uint64], int] = cast("Any", intrinsic(_highest))
"""Place of the highest 1 of a word that is not 0."""

ones: Callable[[np.uint64], int] = cast("Any", intrinsic(_ones))
"""How many 1s a word has."""


@inlined
def set_bit(row: Bits, place: int) -> None:
    """Set one bit of a row."""
    row[place >> 6] |= ONE << np.uint64(place & 63)


@inlined
def has_bit(row: Bits, place: int) -> bool:
    """Whether a bit of a row is set."""
    return bool((row[place >> 6] >> np.uint64(place & 63)) & ONE)


@inlined
def clear_bit(row: Bits, place: int) -> None:
    """Clear one bit of a row."""
    row[place >> 6] &= ~(ONE << np.uint64(place & 63))


@compiled
def all_set(vertices: int) -> Bits:
    """A row in which every vertex is set."""
    row = np.zeros((vertices + 63) >> 6, np.uint64)
    for vertex in range(vertices):
        set_bit(row, vertex)
    return row


def pack(graph: NDArray[np.bool_]) -> Bits:
    """The rows of a bool adjacency matrix.

    Args:
        graph: (vertices, vertices) symmetric; the diagonal is ignored.
    """
    vertices = len(graph)
    padded = np.zeros((vertices, 64 * (-(-vertices // 64))), dtype=np.bool_)
    padded[:, :vertices] = graph
    np.fill_diagonal(padded, False)
    rows: Bits = np.packbits(padded, axis=1, bitorder="little").view(np.dtype("<u8")).astype(np.uint64)
    return rows


def unpack(rows: Bits) -> NDArray[np.bool_]:
    """The (vertices, vertices) bool adjacency matrix of rows of bits."""
    octets = rows.astype(np.dtype("<u8")).view(np.uint8)
    return np.unpackbits(octets, axis=1, count=len(rows), bitorder="little").astype(np.bool_)


@compiled
def induced(rows: Bits, vertices: NDArray[np.int64]) -> Bits:
    """The rows of the graph that some vertices induce, numbered in the order given.

    Args:
        rows: (vertices, words) rows of a graph.
        vertices: (kept,) different vertices.
    """
    count = len(vertices)
    found = np.zeros((count, (count + 63) >> 6), np.uint64)
    kept = np.zeros(rows.shape[1], np.uint64)
    places = np.empty(len(rows), np.int64)
    for place in range(count):
        set_bit(kept, vertices[place])
        places[vertices[place]] = place
    for place in range(count):
        for word in range(len(kept)):
            left = rows[vertices[place], word] & kept[word]
            while left:
                set_bit(found[place], places[(word << 6) + lowest(left)])
                left &= left - ONE
    return found


@compiled
def count_edges(rows: Bits) -> int:
    """How many edges a graph has."""
    ends = 0
    for vertex in range(rows.shape[0]):
        for word in range(rows.shape[1]):
            ends += ones(rows[vertex, word])
    return ends // 2
