"""Convolutions and linear layers as matrix products: what an output reads as a row, weights as a matrix."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from topocompress.reconstruction.calls import Product, handed

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
Layer = nn.Linear | Conv | Transposed

_KINDS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def is_product(module: nn.Module) -> bool:
    """Whether a module is of a kind that can be refitted; whether it computes no more than that, running it shows."""
    weight = module._parameters.get("weight")
    return isinstance(module, _KINDS) and isinstance(weight, nn.Parameter) and weight.is_floating_point()


def groups_of(layer: Layer) -> int:
    """Groups of a convolution; 1 for a linear layer."""
    return 1 if isinstance(layer, nn.Linear) else layer.groups


def places(output: Tensor, layer: Layer) -> int:
    """Positions of one sample in a layer's output."""
    shape = output.shape[1:-1] if isinstance(layer, nn.Linear) else output.shape[2:]
    return math.prod(shape)


def targets(output: Tensor, layer: Layer, where: Tensor) -> Tensor:
    """(samples · q, channels): a layer's output, or what has its shape, at (samples, q) positions."""
    if isinstance(layer, nn.Linear):
        flat = output.reshape(len(output), -1, output.shape[-1])
    else:
        flat = output.flatten(2).transpose(1, 2)
    return flat[torch.arange(len(output), device=output.device)[:, None], where].flatten(0, 1)


def rows(inputs: Tensor, layer: Layer, where: Tensor) -> Tensor:
    """(samples · q, groups, features): what a layer reads for each of its outputs at (samples, q) positions."""
    product = handed(layer, inputs)
    inputs, kernel = product.inputs, product.weight.shape[2:]
    if isinstance(layer, nn.Linear):
        return targets(inputs, layer, where)[:, None]
    if isinstance(layer, Transposed):
        inputs, strides = _spread(product), (1,) * len(kernel)
    else:
        pads = [side for around in reversed(product.padding) for side in around]
        inputs, strides = F.pad(inputs, pads), product.stride
    dims = len(strides)
    spans = [
        (size - dilation * (taps - 1) - 1) // stride + 1
        for size, dilation, taps, stride in zip(inputs.shape[2:], product.dilation, kernel, strides, strict=True)
    ]
    index: list[Tensor] = []
    sample = torch.arange(len(inputs), device=inputs.device).repeat_interleave(where.shape[1])
    place = where.flatten()
    for axis in reversed(range(dims)):
        along, place = place % spans[axis], place // spans[axis]
        taps = torch.arange(kernel[axis], device=inputs.device) * product.dilation[axis]
        shape = [len(along), *(-1 if other == axis else 1 for other in range(dims))]
        index.insert(0, (along[:, None] * strides[axis] + taps).view(shape))
    patches = inputs.movedim(1, -1)[(sample.view(-1, *(1,) * dims), *index)]  # (n, *kernel, C)
    parts = patches.reshape(*patches.shape[:-1], product.groups, -1).movedim(-2, 1)
    return parts.flatten(2)


def matrix(layer: Layer) -> Tensor:
    """(groups, features, outputs of a group): the weights, in the order of :func:`rows`."""
    weight = layer.weight.detach()
    if isinstance(layer, nn.Linear):
        return weight.t()[None]
    if isinstance(layer, Transposed):
        flipped = weight.flip(tuple(range(2, weight.ndim)))
        parts = flipped.reshape(layer.groups, -1, *weight.shape[1:])  # (g, I/g, O/g, *kernel)
        return parts.movedim((1, 2), (-2, -1)).flatten(1, -2)
    parts = weight.reshape(layer.groups, -1, *weight.shape[1:])  # (g, O/g, C/g, *kernel)
    return parts.movedim((1, 2), (-1, -2)).flatten(1, -2)


def set_matrix(layer: Layer, found: Tensor) -> None:
    """Put (groups, features, outputs of a group) in place of the weights."""
    weight = layer.weight.detach()
    if isinstance(layer, nn.Linear):
        new = found[0].t()
    elif isinstance(layer, Transposed):
        kernel, outputs = weight.shape[2:], weight.shape[1]
        parts = found.view(layer.groups, *kernel, -1, outputs).movedim((-2, -1), (1, 2))
        new = parts.flatten(0, 1).flip(tuple(range(2, weight.ndim)))
    else:
        kernel, inputs = weight.shape[2:], weight.shape[1]
        new = found.view(layer.groups, *kernel, inputs, -1).movedim((-1, -2), (1, 2)).flatten(0, 1)
    with torch.no_grad():
        layer.weight.copy_(new)


def _spread(product: Product) -> Tensor:
    """The input over which a transposed convolution is a plain one with mirrored kernels: zeros between and around."""
    inputs = product.inputs
    sizes = [(size - 1) * stride + 1 for size, stride in zip(inputs.shape[2:], product.stride, strict=True)]
    spread = inputs.new_zeros(*inputs.shape[:2], *sizes)
    spread[(slice(None), slice(None), *(slice(None, None, stride) for stride in product.stride))] = inputs
    pads: list[int] = []
    for taps, dilation, padding, more in zip(
        product.weight.shape[2:], product.dilation, product.padding, product.output_padding, strict=True
    ):
        around = dilation * (taps - 1)
        pads[:0] = [around - padding[0], around - padding[1] + more]
    return F.pad(spread, pads)
