"""How the weights of a stacked network start, and what may stand before its activations to normalise the signal."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

Generator = torch.Generator
_EPSILON = 1e-5
_MOMENTUM = 0.1


def _torchs(rows: int, columns: int, generator: Generator) -> Tensor:
    return (torch.rand(rows, columns, generator=generator) * 2 - 1) / math.sqrt(rows)


def _kaiming(rows: int, columns: int, generator: Generator) -> Tensor:
    return torch.randn(rows, columns, generator=generator) * math.sqrt(2 / rows)


def _xavier(rows: int, columns: int, generator: Generator) -> Tensor:
    return torch.randn(rows, columns, generator=generator) * math.sqrt(2 / (rows + columns))


def _orthogonal(rows: int, columns: int, generator: Generator) -> Tensor:
    return nn.init.orthogonal_(torch.empty(rows, columns), generator=generator)


STARTS: dict[str, Callable[[int, int, Generator], Tensor]] = {
    "torch": _torchs,
    "Kaiming": _kaiming,
    "Xavier": _xavier,
    "orthogonal": _orthogonal,
}
"""Those people use: the start of :class:`torch.nn.Linear`, and three of :mod:`torch.nn.init` with biases of 0."""


def started(start: str, rows: int, columns: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Weights (rows, columns) and biases (1, columns) of one linear layer."""
    weights = STARTS[start](rows, columns, generator)
    biases = (torch.rand(1, columns, generator=generator) * 2 - 1) / math.sqrt(rows)
    return weights, biases if start == "torch" else torch.zeros(1, columns)


class Norm:
    """BatchNorm or LayerNorm for (runs, samples, width), as torch's modules compute it, one for each run.

    Args:
        kind: ``BatchNorm`` or ``LayerNorm``.
        runs: How many.
        width: Channels.
    """

    def __init__(self, kind: str, runs: int, width: int) -> None:
        self.by_batch = kind == "BatchNorm"
        self.tensors = (torch.ones(runs, 1, width), torch.zeros(runs, 1, width))
        self._mean, self._variance = torch.zeros(runs, 1, width), torch.ones(runs, 1, width)

    def __call__(self, points: Tensor, *, training: bool) -> Tensor:
        """The same shape; when training, the running statistics follow the batch."""
        scale, shift = self.tensors
        if not self.by_batch:
            return torch.addcmul(shift, F.layer_norm(points, points.shape[-1:], eps=_EPSILON), scale)
        if training:
            found: Tensor = _ByBatch.apply(points, scale, shift, self._mean, self._variance)
            return found
        factor = scale * (self._variance + _EPSILON).rsqrt()
        return torch.addcmul(shift - self._mean * factor, points, factor)


class _ByBatch(Function):
    """BatchNorm in training, by products with a row of ones: fewer passes over the numbers than autograd takes."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """(runs, samples, width) → the same; the running statistics change in place."""
        runs, samples, _ = points.shape
        shares = torch.full((runs, 1, samples), 1 / samples)
        centre = torch.bmm(shares, points)
        rest = points - centre
        spread = torch.bmm(shares, rest.square())
        mean.lerp_(centre, _MOMENTUM)
        variance.lerp_(spread * (samples / (samples - 1)), _MOMENTUM)
        inverse = (spread + _EPSILON).rsqrt()
        ctx.save_for_backward(rest, scale, inverse, shares)
        return torch.addcmul(shift, rest, scale * inverse)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """To the points, the scale and the shift."""
        rest, scale, inverse, shares = ctx.saved_tensors
        mean, along = torch.bmm(shares, gradient), torch.bmm(shares, gradient * rest)
        sent = torch.addcmul(gradient - mean, rest, along * inverse.square(), value=-1).mul_(scale * inverse)
        count = shares.shape[-1]
        return sent, along * inverse * count, mean * count, None, None
