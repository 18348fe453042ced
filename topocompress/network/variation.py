"""How much of one network's outputs another's explain, where the outputs are no scores of classes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from topocompress.errors import ModelError

PLACES = 4096
"""Numbers per sample that are compared; of a larger output so many places, drawn once, the same for all networks."""

_NOISE = 1e-5
"""What varies by less than this share of its size is taken for a constant, as float32 gives it."""


@dataclass(frozen=True, kw_only=True)
class Values:
    """What a network gives as one of its outputs.

    Attributes:
        numbers: (samples, places) float32.
        shape: Of the output for one sample.
        places: (places,) where in the flattened output they stand.
    """

    numbers: NDArray[np.float32]
    shape: tuple[int, ...]
    places: NDArray[np.intp]

    @property
    def constant(self) -> bool:
        """Whether it is the same for all samples."""
        total, size = self._spread()
        return bool((total <= _NOISE**2 * size).all())

    def _spread(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(places,) each: summed squares about the mean over the samples, and about 0."""
        numbers = self.numbers.astype(np.float64)
        return np.square(numbers - numbers.mean(axis=0)).sum(axis=0), np.square(numbers).sum(axis=0)


def picked(output: Tensor) -> Values:
    """Those numbers that are compared of a (samples, ...) output."""
    if output.is_complex():
        output = torch.view_as_real(output.resolve_conj())
    flat = output.detach().reshape(len(output), -1)
    places = np.arange(flat.shape[1], dtype=np.intp)
    if len(places) > PLACES:
        places = np.sort(np.random.default_rng(0).choice(places, PLACES, replace=False))
    numbers = flat[:, torch.from_numpy(places).to(flat.device)].float().cpu().numpy()
    return Values(numbers=numbers, shape=tuple(output.shape[1:]) or (1,), places=places)


def joined(parts: Sequence[Values]) -> Values:
    """The same of several batches.

    Raises:
        ModelError: The output has another shape in another batch.
    """
    shapes = {part.shape for part in parts}
    if len(shapes) > 1:
        raise ModelError(
            f"the model's output has shapes that differ between batches: {', '.join(map(str, sorted(shapes)))}",
            hint="Wrap the model so that each sample gives an output of the same shape.",
        )
    return replace(parts[0], numbers=np.concatenate([part.numbers for part in parts]))


def explained(first: Values, second: Values) -> float:
    """How much of the variation of one network's output over the samples another's output explains, -1 to 1.

    The coefficient of determination R² = 1 - Σ(a - b)² / Σ(a - mean of a)², where the mean is over the samples, place
    by place, so that a large constant part takes no credit. It is taken of each entry of the output's first axis after
    the samples and averaged; the same for the last axis; the lower of the two counts. So what is small, such as scores
    beside coordinates in pixels, is not drowned by what is large. Entries that are the same for all samples, in both
    networks, do not count.

    Args:
        first: The original's.
        second: The other's, of the same samples.

    Returns:
        1 where both are equal, 0 where the other is no better than the mean, less where it is worse: 1 / q - 1 with q
        the ratio above, so that values stay above -1 and can still be told apart.
    """
    total, size = first._spread()
    left = np.square(first.numbers.astype(np.float64) - second.numbers).sum(axis=0)
    where = np.unravel_index(first.places, first.shape)
    return min(_averaged(total, size, left, where[axis]) for axis in {0, len(first.shape) - 1})


def _averaged(
    total: NDArray[np.float64], size: NDArray[np.float64], left: NDArray[np.float64], entry: NDArray[np.intp]
) -> float:
    number = np.unique(entry, return_inverse=True)[1]
    varied, whole, missed = (np.bincount(number, weights=each) for each in (total, size, left))
    floor = _NOISE**2 * whole
    ratio = np.divide(missed, varied + floor, out=np.where(missed > 0, math.inf, 0.0), where=varied + floor > 0)
    counted = (varied > floor) | (ratio > 1)
    shares = np.where(ratio > 1, 1 / np.maximum(ratio, 1) - 1, 1 - ratio)
    return float(shares[counted].mean()) if counted.any() else 1.0


def error_weights(batches: Iterable[list[Tensor]]) -> list[Tensor]:
    """Weights that make squared errors of outputs shares of the outputs' variation.

    Args:
        batches: Outputs of a network, each (samples, ...), batch by batch.

    Returns:
        One (numbers,) tensor per output, for the flattened output of a sample. Σ weights · (a - b)², averaged over the
        samples, is the unexplained share of the variation: averaged over the entries of the first axis, and of the
        last, the mean of both, divided by the number of outputs.
    """
    known: list[_Spread] = []
    for outputs in batches:
        known = known or [_Spread(output) for output in outputs]
        for each, output in zip(known, outputs, strict=True):
            each.add(output)
    return [each.weights() / len(known) for each in known]


class _Spread:
    """How an output varies from sample to sample at each of its places, batch by batch."""

    def __init__(self, first: Tensor) -> None:
        self.shape = tuple(first.shape[1:]) or (1,)
        self.shift = first.detach().double().mean(0).reshape(self.shape)  # so that a large mean drowns no spread
        self.total, self.squares = torch.zeros_like(self.shift), torch.zeros_like(self.shift)
        self.samples = 0

    def add(self, output: Tensor) -> None:
        off = output.detach().double().reshape(-1, *self.shape) - self.shift
        self.total += off.sum(0)
        self.squares += off.square().sum(0)
        self.samples += len(off)

    def weights(self) -> Tensor:
        mean = self.total / self.samples
        varied = (self.squares / self.samples - mean.square()).clamp(min=0)
        size = varied + (self.shift + mean).square()
        both = [_weights(varied, size, axis) for axis in (0, varied.ndim - 1)]
        return ((both[0] + both[1]) / 2).flatten().float()


def _weights(varied: Tensor, size: Tensor, axis: int) -> Tensor:
    others = [each for each in range(varied.ndim) if each != axis]
    total, whole = (each.sum(others, keepdim=True) if others else each for each in (varied, size))
    beside = torch.where(total > _NOISE**2 * whole, total, whole)  # a constant is to be kept within its own size
    weights = torch.where(beside > 0, 1 / beside.clamp(min=1e-20), 1.0)
    return (weights / varied.shape[axis]).expand_as(varied)
