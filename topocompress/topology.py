"""Betti numbers of feature clouds: distances, scales, graphs, strong collapse, persistence.

The one place that talks to a persistent-homology backend: giotto-ph where it has a wheel, else ripser.

The Betti numbers of the Vietoris–Rips complex at one scale ε depend only on the ε-graph (the complex is the graph's
clique complex), so that graph is the working object here: the filtration beyond ε is never built.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, dijkstra
from torch import Tensor

from topocompress.errors import TopologyError

_PARAMETERS = {"quantile": 1, "relative": 1, "layer": 1, "absolute": 1, "knn": 2}
# Squared distances below this share of the squared norms have lost most of their digits in a² + b² − 2ab.
_CANCELLED = 1e-2
_EXACT_ELEMENTS = 1 << 24
_SAFE = 2.0**40


@dataclass(frozen=True)
class Scale:
    """How ε is chosen for a feature cloud.

    Attributes:
        kind: ``quantile`` (of the cloud's own pairwise distances), ``relative`` (times the cloud's own mean distance),
            ``layer`` (times the mean distance over all clouds of the layer, so that amplitude counts),
            ``absolute`` (in units of the maps) or ``knn`` (hops in the k-nearest-neighbour graph, as in Naitzat,
            Zhitnikov & Lim, JMLR 21(184), 2020, section 6.3).
        values: (q,), (r,), (r,), (ε,) or (k, hops).
    """

    kind: str
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.kind not in _PARAMETERS or len(self.values) != _PARAMETERS[self.kind]:
            raise TopologyError(f"unknown scale {str(self)!r}", hint=_SCALE_HELP)
        if not all(math.isfinite(value) and value > 0 for value in self.values):
            raise TopologyError(f"scale {str(self)!r}: its values must be positive and finite", hint=_SCALE_HELP)
        if self.kind == "quantile" and self.values[0] >= 1:
            raise TopologyError(f"scale {str(self)!r}: a quantile lies between 0 and 1", hint=_SCALE_HELP)
        if self.kind == "knn" and not all(value.is_integer() for value in self.values):
            raise TopologyError(f"scale {str(self)!r}: neighbours and hops are whole numbers", hint=_SCALE_HELP)

    @classmethod
    def parse(cls, text: str) -> Scale:
        """Read ``quantile:0.2``, ``relative:0.5``, ``layer:0.5``, ``absolute:1.5`` or ``knn:14,2``.

        Raises:
            TopologyError: The text is none of these.
        """
        kind, _, values = text.partition(":")
        try:
            return cls(kind, tuple(float(value) for value in values.split(",")))
        except ValueError as error:
            if isinstance(error, TopologyError):
                raise
            raise TopologyError(f"cannot read the scale {text!r}", hint=_SCALE_HELP) from error

    def __str__(self) -> str:
        return f"{self.kind}:{','.join(map(_shortest, self.values))}"


def _shortest(value: float) -> str:
    """The shortest text that reads back as the same number."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


_SCALE_HELP = "Use quantile:Q, relative:R, layer:R, absolute:E or knn:K,HOPS, for example quantile:0.2."


def pairwise_distances(clouds: Tensor) -> Tensor:
    """Euclidean distances within each cloud, on the clouds' device.

    One batched matrix product; pairs so close that a² + b² − 2ab cancels are computed again from their differences,
    so identical samples are at distance exactly 0.

    Args:
        clouds: (filters, samples, features) finite floats.

    Returns:
        (filters, samples, samples) float32, symmetric, zero diagonal.
    """
    points = clouds.to(torch.float32)
    peak = points.abs().amax(dim=(1, 2), keepdim=True)
    extreme = (peak > 0) & ((peak < 1 / _SAFE) | (peak > _SAFE))
    unit = torch.where(extreme, peak, 1.0)
    if extreme.any():  # their squares would leave the range of float32
        points = points / unit
    norms = points.square().sum(dim=2)
    sums = norms[:, :, None] + norms[:, None, :]
    squared = torch.baddbmm(sums, points, points.transpose(1, 2), alpha=-2)
    squared = torch.maximum(squared, squared.transpose(1, 2))  # the product need not round symmetrically
    torch.diagonal(squared, dim1=1, dim2=2).fill_(torch.inf)
    close = (squared < sums.mul_(_CANCELLED)).nonzero()
    torch.diagonal(squared, dim1=1, dim2=2).zero_()
    rows = max(1, _EXACT_ELEMENTS // max(1, points.shape[2]))
    for start in range(0, len(close), rows):
        cloud, first, second = close[start : start + rows].unbind(dim=1)
        squared[cloud, first, second] = (points[cloud, first] - points[cloud, second]).square_().sum(dim=1)
    return squared.clamp_(min=0).sqrt_().mul_(unit)


def mean_distances(distances: Tensor) -> NDArray[np.float64]:
    """Mean distance over the pairs of different samples.

    Args:
        distances: (filters, samples, samples), symmetric, zero diagonal.

    Returns:
        (filters,) float64.
    """
    samples = distances.shape[1]
    total = distances.sum(dim=(1, 2), dtype=torch.float64).cpu().numpy()
    mean: NDArray[np.float64] = total / max(1, samples * (samples - 1))
    return mean


def neighbourhood_graph(
    distances: NDArray[np.float32], scale: Scale, *, layer_mean: float | None = None
) -> NDArray[np.bool_]:
    """The graph that joins samples closer than the scale.

    Args:
        distances: (samples, samples) symmetric.
        scale: How ε is chosen.
        layer_mean: Mean pairwise distance over all clouds of the layer; needed by ``layer`` alone.

    Returns:
        (samples, samples) bool adjacency, symmetric, False on the diagonal.

    Raises:
        TopologyError: ``layer`` without ``layer_mean``, or ``knn`` with fewer than k + 1 samples.
    """
    if scale.kind == "knn":
        return _hop_graph(distances, int(scale.values[0]), int(scale.values[1]))
    graph: NDArray[np.bool_] = distances <= choose_epsilon(distances, scale, layer_mean=layer_mean)
    np.fill_diagonal(graph, False)
    return graph


def choose_epsilon(distances: NDArray[np.float32], scale: Scale, *, layer_mean: float | None = None) -> float:
    """The ε of a distance-based scale, in the units of ``distances``.

    ``quantile:q`` gives the smallest distance d such that at least a share q of the pairs is within d. See
    :func:`neighbourhood_graph` for the arguments and errors.
    """
    (value,) = scale.values
    if scale.kind == "absolute":
        return value
    if scale.kind == "layer":
        if layer_mean is None:
            raise TopologyError("the layer scale needs the mean distance of the whole layer (layer_mean)")
        return value * layer_mean
    samples = len(distances)
    pairs = samples * (samples - 1) // 2
    if not pairs:
        raise TopologyError("a scale needs at least two samples", hint="Give more calibration samples.")
    if scale.kind == "relative":
        return value * float(distances.sum(dtype=np.float64)) / (2 * pairs)
    # In the whole matrix the zeros of the diagonal come first, then every pair twice.
    rank = samples + 2 * max(0, math.ceil(round(value * pairs, 6)) - 1)
    return float(np.partition(distances, rank, axis=None)[rank])


def _hop_graph(distances: NDArray[np.float32], neighbours: int, hops: int) -> NDArray[np.bool_]:
    samples = len(distances)
    if samples <= neighbours:
        raise TopologyError(
            f"scale knn:{neighbours},{hops} needs more than {neighbours} samples, got {samples}",
            hint="Give more calibration samples or a smaller k.",
        )
    ranked = distances.copy()
    np.fill_diagonal(ranked, -1.0)  # a sample comes first in its own list even among exact duplicates
    nearest = np.argsort(ranked, axis=1, kind="stable")[:, 1 : neighbours + 1]
    rows = np.repeat(np.arange(samples), neighbours)
    links = coo_array((np.ones(rows.size), (rows, nearest.ravel())), shape=(samples, samples))
    reached = dijkstra(csr_array(links), directed=False, unweighted=True, limit=hops) <= hops
    np.fill_diagonal(reached, False)
    return np.asarray(reached, dtype=np.bool_)


def betti_numbers(graph: NDArray[np.bool_], dimensions: Sequence[int] = (0, 1)) -> tuple[int, ...]:
    """Betti numbers of the clique complex of a graph, over the field with two elements.

    Args:
        graph: (samples, samples) bool adjacency, symmetric, False on the diagonal.
        dimensions: Homology dimensions wanted, each 0, 1 or 2.

    Returns:
        One number per dimension asked for.

    Raises:
        TopologyError: A dimension above 2 or below 0, or no backend is installed.
    """
    if not dimensions or not set(dimensions) <= {0, 1, 2}:
        raise TopologyError(f"homology dimensions {tuple(dimensions)}", hint="Choose among 0, 1 and 2.")
    highest = max(dimensions)
    if highest == 0:
        return tuple(int(connected_components(csr_array(graph), directed=False)[0]) for _ in dimensions)
    # With every edge at filtration value 1 the complex at 1 is the clique complex: a bar that never ends is a class.
    steps = np.where(graph, np.float32(1), np.float32(2))
    np.fill_diagonal(steps, 0)
    diagrams = persistence_diagrams(steps, highest, threshold=1.0)
    return tuple(int(np.isinf(diagrams[dimension][:, 1]).sum()) for dimension in dimensions)


@functools.cache
def _giotto() -> Callable[..., Any]:
    state = random.getstate()  # its import draws from Python's generator
    from gph import ripser_parallel

    random.setstate(state)
    found: Callable[..., Any] = ripser_parallel
    return found


def persistence_diagrams(
    distances: NDArray[np.float32], max_dimension: int = 1, *, threshold: float = math.inf
) -> list[NDArray[np.float64]]:
    """Persistence diagrams of the Vietoris–Rips filtration, over the field with two elements.

    Args:
        distances: (samples, samples) symmetric, finite, zero diagonal.
        max_dimension: Highest homology dimension.
        threshold: Largest filtration value, in units of ``distances``; bars alive there are infinite.

    Returns:
        One (bars, 2) array per dimension: birth, death (``inf`` where the bar never ends), rows sorted.

    Raises:
        TopologyError: NaN or infinity among the distances, or no backend is installed.
    """
    if not np.isfinite(distances).all():
        raise TopologyError("distances must be finite; got NaN or infinity")
    if importlib.util.find_spec("gph"):
        ripser_parallel = _giotto()

        diagrams = ripser_parallel(distances, maxdim=max_dimension, thresh=threshold, metric="precomputed")["dgms"]
    elif importlib.util.find_spec("ripser"):
        from ripser import ripser

        diagrams = ripser(distances, maxdim=max_dimension, thresh=threshold, distance_matrix=True)["dgms"]
    else:
        raise TopologyError("no persistent-homology backend is installed", hint="pip install ripser")
    rows = [np.asarray(diagram, dtype=np.float64).reshape(-1, 2) for diagram in diagrams]
    return [diagram[np.lexsort((diagram[:, 1], diagram[:, 0]))] for diagram in rows]
