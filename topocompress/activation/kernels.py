"""The formulas of the topological activation computed in one go, forward and back, saving nothing but their inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

BLOCK = 1 << 17
"""Numbers handled at a time on the CPU: what fits its cache is not fetched from memory at every operation."""


def beside(inputs: Tensor, channels: int, axis: int) -> list[int]:
    """A shape in which one number per channel spreads over the inputs."""
    shape = [1] * inputs.ndim
    shape[axis] = channels
    return shape


class Folded(Function):
    """``plain + amplitude · wave``, which keeps nothing but its inputs for the way back."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, plain: Tensor | None, amplitude: Tensor, turns: float, axis: int) -> Tensor:
        """``plain`` is ``None`` for SiLU; ``turns`` of the wave per unit of the input."""
        ctx.save_for_backward(inputs, amplitude)
        ctx.turns, ctx.axis, ctx.fused = turns, axis, plain is None
        output = F.silu(inputs) if plain is None else plain.clone()
        scale = 8 * amplitude.view(beside(inputs, len(amplitude), axis))
        for part, rest, size in _blocks(inputs, axis):
            _turned(inputs[part], turns, rest=rest, size=size)
            torch.addcmul(rest, rest, size, value=-2, out=size)
            output[part].addcmul_(size, scale)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, Tensor, None, None]:
        """To the inputs, the plain activation and the amplitudes."""
        inputs, amplitude = ctx.saved_tensors
        shape = beside(inputs, len(amplitude), ctx.axis)
        fused = ctx.fused
        to_inputs = torch.ops.aten.silu_backward(gradient, inputs) if fused else torch.zeros_like(inputs)
        to_amplitude = torch.zeros(shape, dtype=amplitude.dtype, device=amplitude.device)
        scale = 8 * ctx.turns * amplitude.view(shape)
        for part, rest, size in _blocks(inputs, ctx.axis):
            _turned(inputs[part], ctx.turns, rest=rest, size=size)
            received = gradient[part]
            rest.addcmul_(rest, size, value=-2).mul_(received)
            to_amplitude += rest.sum_to_size(shape)
            torch.addcmul(received, received, size, value=-4, out=size)
            to_inputs[part].addcmul_(size, scale)
        return to_inputs, None if fused else gradient, to_amplitude.mul_(8).view_as(amplitude), None, None


class Arched(Function):
    """``plain - amplitude · arch``, which keeps nothing but its inputs; the plain activation is a hinge if ``None``.

    With h of the input and b = 4 · amplitude: h · (x - b + b h) on the hinge, plain + h · (b h - b) otherwise.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, plain: Tensor | None, amplitude: Tensor, half: float, axis: int) -> Tensor:
        """The arch lies within ±``half``."""
        ctx.save_for_backward(inputs, amplitude)
        ctx.half, ctx.axis, ctx.fused = half, axis, plain is None
        output = torch.empty_like(inputs) if plain is None else plain.clone()
        scale = 4 * amplitude.view(beside(inputs, len(amplitude), axis))
        for part, place, depth in _blocks(inputs, axis):
            torch.mul(inputs[part], 0.5 / half, out=place).add_(0.5).clamp_(0, 1)
            torch.sub(place, 1, out=depth)
            if plain is None:
                torch.addcmul(inputs[part], depth, scale, out=depth)
                torch.mul(depth, place, out=output[part])
            else:
                output[part].addcmul_(depth.mul_(scale), place)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, Tensor, None, None]:
        """To the inputs, the plain activation and the amplitudes."""
        inputs, amplitude = ctx.saved_tensors
        shape = beside(inputs, len(amplitude), ctx.axis)
        fused, half = ctx.fused, ctx.half
        to_inputs = torch.empty_like(inputs)
        to_amplitude = torch.zeros(shape, dtype=amplitude.dtype, device=amplitude.device)
        # Within ±half 2h - 1 is x / half: there the hinge and the arch add something times x to the slope.
        scale = (0.5 / half) * (fused + (4 / half) * amplitude.view(shape))
        for part, place, other in _blocks(inputs, ctx.axis):
            received, sent = gradient[part], to_inputs[part]
            torch.mul(inputs[part], 0.5 / half, out=place).add_(0.5).clamp_(0, 1)
            torch.mul(inputs[part], scale, out=other)
            torch.ops.aten.hardtanh_backward.grad_input(received, inputs[part], -half, half, grad_input=sent)
            sent.mul_(other)
            torch.mul(received, place, out=other)
            if fused:
                sent.add_(other)
            to_amplitude += torch.addcmul(other, other, place, value=-1, out=other).sum_to_size(shape)
        return to_inputs, None if fused else gradient, to_amplitude.mul_(-4).view_as(amplitude), None, None


def _blocks(inputs: Tensor, axis: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Parts of the first axis, and two tensors of a part's shape that are the caller's until the next part."""
    # Channels along the first axis cannot be cut apart.
    whole = inputs.device.type != "cpu" or axis in (0, -inputs.ndim)
    step = max(1, len(inputs) if whole else BLOCK * len(inputs) // max(1, inputs.numel()))
    first = torch.empty_like(inputs[:step])
    second = torch.empty_like(first)
    for start in range(0, len(inputs), step):
        part = slice(start, start + step)
        count = len(inputs[part])
        yield part, first[:count], second[:count]


def _turned(inputs: Tensor, turns: float, *, rest: Tensor, size: Tensor) -> None:
    """The distance of each input from the nearest whole turn, and its absolute value."""
    torch.mul(inputs, turns, out=rest)
    torch.round(rest, out=size)
    rest.sub_(size)
    torch.abs(rest, out=size)
