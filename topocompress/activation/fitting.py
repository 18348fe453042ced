"""What a topological activation learns about its inputs from the first batch: their size and their dimension."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

ROWS = 1 << 14
"""Samples that are looked at."""
STRONGEST = 3.0
"""Amplitude of the wave on inputs that lie in a plane, or in less."""
PLANE = 2.0
POWER = 2
"""How fast the amplitude falls with the dimension of the inputs."""


def sizes(inputs: Tensor) -> Tensor:
    """(..., samples, channels) → (...) root mean square."""
    return inputs.square().mean((-2, -1)).sqrt()


def dimensions(inputs: Tensor) -> Tensor:
    """How many dimensions inputs spread over: the participation ratio (tr C)² / tr C² of their covariance C.

    It is 1 if all lie on one line, and the number of channels if no direction is preferred. From layer to layer of a
    network that folds it rises: by it an activation tells the first layer from a late one. The mean does not count:
    what comes from convolutions lies far to one side of 0, in many dimensions all the same.

    Args:
        inputs: (..., samples, channels).

    Returns:
        (...), 1 to the number of channels; 0 where all are the same.
    """
    apart = inputs - inputs.mean(-2, keepdim=True)
    spread = apart.mT @ apart
    trace = spread.diagonal(dim1=-2, dim2=-1).sum(-1)
    return trace.square() / spread.square().sum((-2, -1)).clamp_min(torch.finfo(spread.dtype).tiny)


def strengths(inputs: Tensor) -> Tensor:
    """(..., samples, channels) → (...) what the wave's amplitudes are multiplied by: less on inputs that spread widely.

    Where every layer folds alike, neighbours are torn apart a little further by each and ten layers do not learn; where
    all fold little, few layers learn slowly.
    """
    return STRONGEST * (PLANE / dimensions(inputs)).clamp(max=1) ** POWER


def fitted(inputs: Tensor, formula: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Scale, strength and gain of a wave for such inputs.

    Args:
        inputs: (..., samples, channels), not all 0.
        formula: Inputs of root mean square 1 and strength → outputs.

    Returns:
        (..., 3), so that gain · formula(inputs / scale, strength) has root mean square 1.
    """
    inputs = inputs[..., :: max(1, -(-inputs.shape[-2] // ROWS)), :].float()
    scale = sizes(inputs)
    unit = inputs / scale[..., None, None]
    strength = strengths(unit)
    gain = 1 / sizes(formula(unit, strength[..., None, None]))
    return torch.stack([scale, strength, gain], -1)
