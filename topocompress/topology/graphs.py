"""The ε-graph of a feature cloud, exact: an edge between samples at most ε apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topocompress.errors import TopologyError
from topocompress.runtime.compiling import compiled
from topocompress.topology.bits import ONE, Bits, lowest, ones, set_bit
from topocompress.topology.components import as_quantile
from topocompress.topology.distances import Squares, full_distances, mean_distance, normalised
from topocompress.topology.hops import hop_rows
from topocompress.topology.scale import Scale

_DRAWN = 4096
_SEED = 0x9E3779B97F4A7C15
_PER_SAMPLE = 64
_SIDE_BY_SIDE = np.uint64(0x0102040810204080)
_BEYOND = 2.0**100  # any distance of a normalised cloud, and its square is a number


@dataclass(frozen=True)
class Graph:
    """A graph on the samples of a cloud.

    Attributes:
        rows: (samples, ceil(samples / 64)) bits, see :mod:`topocompress.topology.bits`.
        epsilon: The scale, in units of the cloud; hops for a ``knn`` scale.
    """

    rows: Bits
    epsilon: float


def neighbourhood_graph(
    points: NDArray[np.floating[Any]], scale: Scale, *, layer: float | None = None, device: str = "cpu"
) -> Graph:
    """The graph that joins the samples of a cloud which are at most ε apart.

    No rounding decides: pairs that a matrix product in single precision cannot place on one side of ε are decided by
    their differences in double precision. ``quantile:q`` means the smallest distance within which a share q of all
    pairs lies.

    Args:
        points: (samples, features) finite floats.
        scale: How ε is chosen.
        layer: What :func:`~topocompress.topology.components.of_layer` says of the cloud's layer; needed by ``layer``
            and ``components`` alone.
        device: Where the matrix product runs, as torch names it.

    Raises:
        TopologyError: A scale that follows from a layer without ``layer``, ``knn`` with fewer than k + 1 samples, fewer
            than two samples, or NaN or infinity in the cloud.
    """
    cloud, unit = normalised(points)
    if scale.kind == "knn":
        neighbours, hops = map(int, scale.values)
        return Graph(
            rows=_hop_graph(full_distances(cloud, device=device, double=True), neighbours, hops), epsilon=float(hops)
        )
    if scale.of_layer:
        if layer is None:
            raise TopologyError(f"the scale {scale} follows from all clouds of a layer, and what they say is not given")
        scale = as_quantile(scale, layer)
    (value,) = scale.values
    samples = len(cloud)
    if samples < 2 and scale.kind in ("quantile", "relative"):
        raise TopologyError("a scale needs at least two samples", hint="Give more calibration samples.")
    if scale.kind == "quantile":
        pairs = samples * (samples - 1) // 2
        rank = max(0, math.ceil(round(value * pairs, 6)) - 1)
        rows, square = _nearest(Squares.of(cloud, device=device), rank, device)
        return Graph(rows=rows, epsilon=unit * math.sqrt(square))
    if scale.kind == "relative":
        epsilon = value * mean_distance(cloud, device=device) * unit
    else:
        epsilon = value * layer if layer is not None and scale.kind == "layer" else value
    square = min(epsilon / unit, _BEYOND) ** 2
    return Graph(rows=_within(Squares.of(cloud, device=device), square, device), epsilon=epsilon)


def _nearest(squares: Squares, rank: int, device: str) -> tuple[Bits, float]:
    """The graph of the ``rank + 1`` nearest pairs with all that are as near as the last, and that squared distance."""
    samples = len(squares.points)
    low, high = _bracket(squares.values, rank / max(1, samples * (samples - 1) // 2))
    while True:
        rows, first, second, values, sure = _divide(squares.values, squares.slack, low, high)
        place = rank - sure
        if 0 <= place < len(first):
            off = squares.slack[first].astype(np.float64) + squares.slack[second]
            least, most = values - off, values + off
            # The square looked for lies between what is in its place of the least and of the most that each can be.
            inside = most < np.partition(least, place)[place]
            open_ = ~inside & (least <= np.partition(most, place)[place])
            if _too_many(squares, open_):
                return _nearest(Squares.of(squares.points, device=device, double=True), rank, device)
            exact = squares.exact(first[open_], second[open_])
            place -= int(np.count_nonzero(inside))
            square = float(np.partition(exact, place)[place])
            if low <= square <= high:
                break
        low, high = -math.inf, math.inf  # an unlucky draw
    inside[open_] = exact <= square
    _join(rows, first[inside], second[inside])
    _mirror(rows)
    return rows, square


def _within(squares: Squares, square: float, device: str) -> Bits:
    """The graph of the pairs whose squared distance is at most ``square``."""
    rows, first, second, *_ = _divide(squares.values, squares.slack, square, square)
    if _too_many(squares, first):
        return _within(Squares.of(squares.points, device=device, double=True), square, device)
    inside = squares.exact(first, second) <= square
    _join(rows, first[inside], second[inside])
    _mirror(rows)
    return rows


def _too_many(squares: Squares, pairs: NDArray[Any]) -> bool:
    return bool(not squares.is_double and np.count_nonzero(pairs) > _PER_SAMPLE * len(squares.points))


def _bracket(values: NDArray[Any], share: float) -> tuple[float, float]:
    """Two values between which a quantile of the lower triangle most likely lies, from pairs drawn at random."""
    samples = len(values)
    if samples * (samples - 1) // 2 <= 4 * _DRAWN:
        return -math.inf, math.inf
    drawn = _draw(values)
    margin = 4 * math.sqrt(share * (1 - share) / _DRAWN) + 2 / _DRAWN
    left, right = int((share - margin) * _DRAWN), int((share + margin) * _DRAWN)
    drawn.partition([max(left, 0), min(right, _DRAWN - 1)])
    return float(drawn[left]) if left >= 0 else -math.inf, float(drawn[right]) if right < _DRAWN else math.inf


@compiled
def _draw(values: NDArray[Any]) -> NDArray[Any]:
    """Some values of the lower triangle, always of the same pairs."""
    samples = np.uint64(len(values))
    drawn = np.empty(_DRAWN, values.dtype)
    state = np.uint64(_SEED)
    half = np.uint64(32)
    for index in range(_DRAWN):
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        first = ((state >> half) * samples) >> half
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        second = ((state >> half) * (samples - ONE)) >> half
        second += np.uint64(second >= first)
        drawn[index] = values[max(first, second), min(first, second)]
    return drawn


@compiled
def _divide(
    values: NDArray[Any], slack: NDArray[Any], low: float, high: float
) -> tuple[Bits, NDArray[np.int32], NDArray[np.int32], NDArray[Any], int]:
    """Join the pairs that surely lie below ``low``, and list those that may lie between ``low`` and ``high``.

    Args:
        values: (samples, samples) squared distances, lower triangle.
        slack: (samples,) as in :class:`Squares`.
        low: Squared distance.
        high: Squared distance, not below ``low``.

    Returns:
        Rows of the graph, with lower neighbours alone; the two ends of the listed pairs and their values; how many
        pairs were joined.
    """
    samples = len(values)
    words = (samples + 63) >> 6
    rows = np.zeros((samples, words), np.uint64)
    bottom, top = values.dtype.type(low), values.dtype.type(high)
    near, far = np.zeros(64 * words, np.uint8), np.ones(64 * words, np.uint8)
    near_octets, far_octets = near.view(np.uint64), far.view(np.uint64)
    listed, joined, capacity = 0, 0, 32 * samples
    ends, others = np.empty(capacity, np.int32), np.empty(capacity, np.int32)
    found = np.empty(capacity, values.dtype)
    for first in range(samples):
        row = values[first]
        mine = slack[first]
        for second in range(first):
            margin = mine + slack[second]
            near[second] = row[second] + margin < bottom
            far[second] = row[second] - margin > top
        if listed + first > len(ends):
            ends, others = np.append(ends, ends), np.append(others, others)
            found = np.append(found, found)
        for word in range((first + 63) >> 6):
            below = _gather(near_octets, word)
            rows[first, word] = below
            joined += ones(below)
            unsure = ~(below | _gather(far_octets, word))
            while unsure:
                second = (word << 6) + lowest(unsure)
                unsure &= unsure - ONE
                ends[listed], others[listed] = first, second
                found[listed] = row[second]
                listed += 1
    return rows, ends[:listed], others[:listed], found[:listed], joined


@compiled
def _gather(octets: NDArray[np.uint64], word: int) -> np.uint64:
    """64 bytes that are 0 or 1 as the bits of a word; a product brings the 8 bytes of an octet side by side."""
    bits = np.uint64(0)
    for place in range(8):
        bits |= ((octets[(word << 3) + place] * _SIDE_BY_SIDE) >> np.uint64(56)) << np.uint64(place << 3)
    return bits


@compiled
def _mirror(rows: Bits) -> None:
    """Give every vertex its upper neighbours too."""
    for first in range(len(rows)):
        for word in range((first + 63) >> 6):
            left = rows[first, word]
            while left:
                set_bit(rows[(word << 6) + lowest(left)], first)
                left &= left - ONE


@compiled
def _join(rows: Bits, first: NDArray[np.int32], second: NDArray[np.int32]) -> None:
    """Add pairs (first > second) as lower neighbours."""
    for pair in range(len(first)):
        set_bit(rows[first[pair]], second[pair])


def _hop_graph(distances: NDArray[np.floating[Any]], neighbours: int, hops: int) -> Bits:
    samples = len(distances)
    if samples <= neighbours:
        raise TopologyError(
            f"scale knn:{neighbours},{hops} needs more than {neighbours} samples, got {samples}",
            hint="Give more calibration samples or a smaller k.",
        )
    return hop_rows(distances, neighbours, hops)
