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
NEIGHBOURS, LOOKED_AT = 3, 1 << 9
"""By how many neighbours of how many samples local dimensions are told."""
FEW = 6.0
"""Local dimensions that points have at most, as opposed to images: up to 5.4 in every layer of 123 networks on sets of
known topology, 6.7 to 16 behind the convolutions of 64 small CNNs."""


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


def local_dimensions(inputs: Tensor) -> Tensor:
    """On a manifold of how many dimensions inputs lie, however it is bent: by how much farther each next neighbour is.

    The estimate of Levina & Bickel, NeurIPS 2004, its inverse averaged over samples.

    Args:
        inputs: (..., samples, channels).

    Returns:
        (...), no more than the linear dimensions over which they spread at all, which neighbours on a grid may exceed;
        0 where it cannot be told, as of too few samples.
    """
    some = inputs[..., :: max(1, -(-inputs.shape[-2] // LOOKED_AT)), :]
    if some.shape[-2] <= NEIGHBOURS:
        return some.new_zeros(some.shape[:-2])
    # By the quick way through a matrix product, close neighbours would be at a distance of rounding errors.
    apart = torch.cdist(some, some, compute_mode="donot_use_mm_for_euclid_dist")
    apart.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
    *nearer, last = apart.topk(NEIGHBOURS, largest=False).values.unbind(-1)
    told = (nearer[0] > 0) & (last > nearer[0])
    ratios = torch.stack([torch.where(told, last / near, 1).log() for near in nearer]).sum((0, -1))
    found = len(nearer) * told.sum(-1) / ratios.clamp_min(torch.finfo(ratios.dtype).tiny)
    lengths = torch.linalg.svdvals((some - some.mean(-2, keepdim=True)).nan_to_num(0, 0, 0))
    return found.minimum(lengths.sum(-1).square() / lengths.square().sum(-1).clamp_min(torch.finfo(some.dtype).tiny))


def strengths(inputs: Tensor) -> Tensor:
    """(..., samples, channels) → (...) what the wave's amplitudes are multiplied by: less on inputs that spread widely.

    Where every layer folds alike, neighbours are torn apart a little further by each and ten layers do not learn; where
    all fold little, few layers learn slowly. How widely is seen from afar, by the participation ratio; but images that
    differ most in one respect, such as their brightness, seem few-dimensional from there and have nothing to fold.
    """
    wide, near = dimensions(inputs), local_dimensions(inputs)
    wide = torch.where(near > FEW, torch.maximum(wide, near), wide)
    return STRONGEST * (PLANE / wide).clamp(max=1) ** POWER


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
