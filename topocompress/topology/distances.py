"""Distances between the samples of a feature cloud: one matrix product, with a rigorous bound on its error.

‖a - b‖² = ‖a‖² + ‖b‖² - 2 a·b in float32 loses the digits of pairs that lie close together. What is decided by a
distance is therefore decided in two steps: by the product where its error bound allows, and by the differences in
double precision, pair by pair, where it does not. Decisions so made do not depend on the machine, its BLAS or the order
of summation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk, ssyrk

from topocompress.errors import TopologyError
from topocompress.runtime.compiling import compiled

_BLOCK = 1024
_SAFE = 2.0**40


def gram_matrix(points: NDArray[np.floating[Any]], *, device: str = "cpu") -> tuple[NDArray[Any], float]:
    """Inner products of all pairs of samples, and how wrong they can be.

    Args:
        points: (samples, features) float32 or float64.
        device: Where the product runs, as torch names it; the processor's own BLAS on ``cpu``.

    Returns:
        (samples, samples) of the same precision; only the lower triangle and the diagonal are filled. And γ such that
        every entry (x, y) differs from x·y by at most γ · ‖x‖‖y‖ (Higham, Accuracy and Stability of Numerical
        Algorithms, 2nd ed., 2002, section 3.1): sums run over blocks of 1,024 features, so γ grows little with them.
    """
    samples, features = points.shape
    unit = float(np.finfo(points.dtype).eps) / 2
    terms = min(features, _BLOCK) + -(-features // _BLOCK) + 8
    gamma = terms * unit / (1 - terms * unit)
    if device != "cpu":
        return _gram_on(points, device), gamma
    multiply = ssyrk if points.dtype == np.float32 else dsyrk
    products = np.empty((samples, samples), points.dtype, order="F")
    for start in range(0, features, _BLOCK):
        block = np.ascontiguousarray(points[:, start : start + _BLOCK])
        # The upper triangle in Fortran's order is the lower one in C's.
        products = multiply(1.0, block.T, beta=float(start > 0), c=products, trans=1, lower=0, overwrite_c=1)
    return products.T, gamma


def _gram_on(points: NDArray[Any], device: str) -> NDArray[Any]:
    import torch

    there = torch.tensor(points, device=device)  # a copy: clouds are read-only, which torch does not take
    products = torch.zeros(len(points), len(points), dtype=there.dtype, device=device)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # the error bound is that of full single precision
    try:
        for start in range(0, points.shape[1], _BLOCK):
            block = there[:, start : start + _BLOCK]
            products.addmm_(block, block.T)
    finally:
        torch.set_float32_matmul_precision(precision)
    found: NDArray[Any] = products.cpu().numpy()
    return found


def normalised(points: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float32], float]:
    """The cloud as contiguous float32 whose squares are in range, and the unit it is measured in: a power of two."""
    if points.ndim != 2 or not points.size:
        raise TopologyError(f"a cloud has shape (samples, features), both at least 1; got {points.shape}")
    with np.errstate(over="ignore"):  # told below
        cloud = np.ascontiguousarray(points, dtype=np.float32)
    peak = float(np.uint32(_largest_magnitude(cloud.view(np.uint32))).view(np.float32))
    if not np.isfinite(peak):
        raise TopologyError("the cloud holds NaN or infinity, or numbers beyond single precision")
    if peak == 0 or 1 / _SAFE <= peak <= _SAFE:
        return cloud, 1.0
    unit = 2.0 ** np.floor(np.log2(peak))
    return (cloud.astype(np.float64) / unit).astype(np.float32), unit


@compiled
def _largest_magnitude(cloud: NDArray[np.uint32]) -> int:
    """The bits of the largest absolute value; those of infinity and NaN are larger than those of any number."""
    largest = np.uint32(0)
    for sample in range(cloud.shape[0]):
        for feature in range(cloud.shape[1]):
            largest = max(largest, cloud[sample, feature] & np.uint32(0x7FFFFFFF))
    return int(largest)


@dataclass(frozen=True)
class Squares:
    """Squared distances of a cloud, and how far off they can be.

    Attributes:
        points: (samples, features) float32 cloud.
        values: (samples, samples); the lower triangle holds squared distances, the rest is meaningless.
        slack: (samples,); the value of samples i and j is off by at most ``slack[i] + slack[j]``.
    """

    points: NDArray[np.float32]
    values: NDArray[Any]
    slack: NDArray[Any]

    @classmethod
    def of(cls, points: NDArray[np.float32], *, device: str = "cpu", double: bool = False) -> Squares:
        """Squared distances by one matrix product, in single or double precision."""
        products, gamma = gram_matrix(points.astype(np.float64) if double else points, device=device)
        # γ from each norm and from the product, as |x·y| <= (‖x‖² + ‖y‖²) / 2; the rest is the norms' own error.
        norms = np.diagonal(products)
        slack = norms * products.dtype.type(2.02 * gamma)
        # γ says nothing of products that vanish; those of a sample of zeros do not.
        lost = norms > 0
        lost[~lost] = points[~lost].any(axis=1)
        slack[lost] += np.finfo(products.dtype).smallest_normal * products.dtype.type(2 * points.shape[1])
        _to_squares(products)
        return cls(points=points, values=products, slack=slack)

    @property
    def is_double(self) -> bool:
        """Whether they were computed in double precision."""
        return bool(self.values.dtype == np.float64)

    def exact(self, first: NDArray[np.integer[Any]], second: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """(pairs,) squared distances of some pairs, from differences in double precision; 0 for identical samples."""
        if len(first) <= len(self.points):
            return _squared_differences(self.points, first, second)
        # So many close pairs come from copies: each pair of different samples is worth computing once.
        whole = np.dtype((np.void, self.points.itemsize * self.points.shape[1]))
        _, groups = np.unique(self.points.view(whole).ravel(), return_inverse=True)
        keys_of = groups[first] * len(self.points) + groups[second]
        keys, places = np.unique(keys_of, return_index=True)
        found = _squared_differences(self.points, first[places], second[places])
        again: NDArray[np.float64] = found[np.searchsorted(keys, keys_of)]
        return again


@compiled
def _to_squares(products: NDArray[Any]) -> None:
    """Turn the lower triangle of inner products into squared distances, in place."""
    samples = len(products)
    norms = np.empty(samples, products.dtype)
    for sample in range(samples):
        norms[sample] = products[sample, sample]
    for first in range(samples):
        norm = norms[first]
        row = products[first]
        for second in range(first):
            row[second] = max(norm + norms[second] - row[second] - row[second], 0)


@compiled
def _squared_differences(
    points: NDArray[np.float32], first: NDArray[np.integer[Any]], second: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    found = np.empty(len(first), np.float64)
    features = points.shape[1]
    for pair in range(len(first)):
        one, other = points[first[pair]], points[second[pair]]
        lanes = np.zeros(8, np.float64)
        whole = features - features % 8
        for start in range(0, whole, 8):
            for lane in range(8):
                difference = np.float64(one[start + lane]) - np.float64(other[start + lane])
                lanes[lane] += difference * difference
        for place in range(whole, features):
            difference = np.float64(one[place]) - np.float64(other[place])
            lanes[place - whole] += difference * difference
        found[pair] = lanes.sum()
    return found


def pairwise_distances(points: NDArray[np.floating[Any]], *, device: str = "cpu") -> NDArray[np.float32]:
    """Euclidean distances between all samples of a cloud.

    Args:
        points: (samples, features) finite floats.
        device: Where the matrix product runs, as torch names it.

    Returns:
        (samples, samples) float32, symmetric, zero diagonal, exactly 0 between identical samples.

    Raises:
        TopologyError: NaN or infinity, or another shape.
    """
    cloud, unit = normalised(points)
    distances: NDArray[np.float32] = (full_distances(cloud, device=device) * unit).astype(np.float32)
    return distances


def full_distances(cloud: NDArray[np.float32], *, device: str = "cpu", double: bool = False) -> NDArray[Any]:
    """(samples, samples) distances of a normalised cloud, by a product in single or double precision."""
    lower: NDArray[Any] = np.sqrt(np.tril(sharp_squares(cloud, device=device, double=double), -1))
    distances: NDArray[Any] = lower + lower.T
    return distances


def mean_distance(points: NDArray[np.floating[Any]], *, device: str = "cpu") -> float:
    """Mean distance over the pairs of different samples of a (samples, features) cloud; 0 for a single sample."""
    cloud, unit = normalised(points)
    samples = len(cloud)
    squares = sharp_squares(cloud, device=device)
    return unit * _sum_of_roots(squares) / max(1, samples * (samples - 1) // 2)


def sharp_squares(cloud: NDArray[np.float32], *, device: str = "cpu", double: bool = False) -> NDArray[Any]:
    """(samples, samples) squared distances of a normalised cloud, lower triangle, none of them mostly rounding."""
    squares = Squares.of(cloud, device=device, double=double)
    first, second = _unsharp(squares.values, squares.slack)
    if len(first) > len(cloud) and not double:
        squares = Squares.of(cloud, device=device, double=True)
        first, second = _unsharp(squares.values, squares.slack)
    squares.values[first, second] = squares.exact(first, second)
    return squares.values


@compiled
def _unsharp(values: NDArray[Any], slack: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pairs whose squared distance may be off by more than 1/256 of it."""
    samples = len(values)
    found = 0
    for first in range(samples):
        for second in range(first):
            found += values[first, second] < 256 * (slack[first] + slack[second])
    ones, others = np.empty(found, np.int64), np.empty(found, np.int64)
    found = 0
    for first in range(samples):
        for second in range(first):
            if values[first, second] < 256 * (slack[first] + slack[second]):
                ones[found], others[found] = first, second
                found += 1
    return ones, others


@compiled
def _sum_of_roots(squares: NDArray[Any]) -> float:
    total = 0.0
    for first in range(len(squares)):
        for second in range(first):
            total += np.sqrt(np.float64(squares[first, second]))
    return total
