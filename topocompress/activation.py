"""The topological activation: a plain activation plus a wave, so that one layer can fold its input and glue the folds.

    f(x) = base(x) + a_c · wave(ω x)

A strictly rising activation is a homeomorphism onto its image, and ReLU glues only along half lines: neither can lay
pieces of a class that lie apart onto each other, so a network needs many layers to do it. ``f`` rises and falls, maps
several intervals onto one, and each channel learns how strongly (a_c; 0 is the base alone). The formula is ours. The
idea that an activation should simplify topology layer by layer is that of Kochar, Vengalil & Sinha, arXiv:2109.01572
(2021), whose formula we do not know.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from topocompress.errors import ModelError

AMPLITUDE = 1.0
FREQUENCY = 2.0
_BLOCK = 1 << 17
"""Numbers handled at a time on the CPU: what fits its cache is not fetched from memory at every operation."""


def wave(inputs: Tensor, frequency: float) -> Tensor:
    """A sine made of parabolas: period 2π / ``frequency``, values -1..1, slope continuous.

    It differs from the sine by at most 0.057 and costs a fraction of it, in PyTorch as in ONNX Runtime.
    """
    return _scaled(_rest(inputs, frequency / (2 * math.pi)), torch.ones((), dtype=inputs.dtype, device=inputs.device))


def _rest(inputs: Tensor, turns: float) -> Tensor:
    """How far an input is from the nearest whole turn, in turns."""
    turned = inputs * turns
    return turned - torch.round(turned)


def _scaled(rest: Tensor, amplitude: Tensor) -> Tensor:
    return rest * (8 * amplitude - 16 * amplitude * rest.abs())


class TopologicalActivation(nn.Module):
    """base(x) + a_c · wave(ω x), many-to-one, with one learned amplitude per channel.

    Args:
        channels: How many amplitudes: the size of the channel axis, or 1 for one that all channels share.
        amplitude: Where they start. 1 in a new fully connected network without normalisation, 0.25 at frequency 1 in a
            new CNN; 0 leaves a trained network as it is.
        frequency: ω, in radians per unit of the input.
        base: The plain activation; SiLU if ``None``. A copy is used, which does not work in place.
        axis: The channel axis of inputs: 1 for (N, C) and (N, C, H, W), -1 for (N, tokens, C).

    Attributes:
        amplitude: (channels,) parameter.

    Raises:
        ModelError: No channel, or a frequency that is not a positive number.
    """

    def __init__(
        self,
        channels: int = 1,
        *,
        amplitude: float = AMPLITUDE,
        frequency: float = FREQUENCY,
        base: nn.Module | None = None,
        axis: int = 1,
    ) -> None:
        super().__init__()
        if channels < 1 or not (math.isfinite(frequency) and frequency > 0):
            raise ModelError(
                f"a topological activation of {channels} channels and frequency {frequency}",
                hint="Give 1 channel or more and a frequency above 0.",
            )
        self.amplitude = nn.Parameter(torch.full((channels,), float(amplitude)))
        self.frequency = float(frequency)
        self.axis = axis
        self.base = nn.SiLU() if base is None else _out_of_place(base)

    @property
    def channels(self) -> int:
        """How many amplitudes there are."""
        return len(self.amplitude)

    def forward(self, inputs: Tensor) -> Tensor:
        """Any shape with the channel axis, to the same shape."""
        if self.channels not in (1, inputs.shape[self.axis]):
            raise ModelError(
                f"a topological activation of {self.channels} channels got an input of shape {tuple(inputs.shape)}",
                hint=f"Its channels are axis {self.axis}.",
            )
        turns = self.frequency / (2 * math.pi)
        if torch.compiler.is_compiling():  # export: standard operators, few of them, and nothing of our own
            exported: Tensor = self.base(inputs) + _scaled(
                _rest(inputs, turns), self.amplitude.view(_beside(inputs, self.channels, self.axis))
            )
            return exported
        # The usual base is computed in one go with the wave, which spares two passes over the numbers.
        plain = None if type(self.base) is nn.SiLU else self.base(inputs)
        found: Tensor = _Folded.apply(inputs, plain, self.amplitude, turns, self.axis)
        return found

    def extra_repr(self) -> str:
        """The settings, for ``repr``."""
        return f"{self.channels}, frequency={self.frequency:g}, axis={self.axis}"


def _out_of_place(base: nn.Module) -> nn.Module:
    copied = copy.deepcopy(base)
    for module in copied.modules():
        if hasattr(module, "inplace"):  # the wave reads what the base would overwrite
            module.inplace = False  # type: ignore[assignment]
    return copied


def _beside(inputs: Tensor, channels: int, axis: int) -> list[int]:
    shape = [1] * inputs.ndim
    shape[axis] = channels
    return shape


class _Folded(Function):
    """``plain + amplitude · wave``, which keeps nothing but its inputs for the way back."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, plain: Tensor | None, amplitude: Tensor, turns: float, axis: int) -> Tensor:
        ctx.save_for_backward(inputs, amplitude)
        ctx.turns, ctx.axis, ctx.fused = turns, axis, plain is None
        output = F.silu(inputs) if plain is None else plain.clone()
        scale = 8 * amplitude.view(_beside(inputs, len(amplitude), axis))
        for part, rest, size in _blocks(inputs, turns, axis):
            torch.addcmul(rest, rest, size, value=-2, out=size)
            output[part].addcmul_(size, scale)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, Tensor, None, None]:
        inputs, amplitude = ctx.saved_tensors
        shape = _beside(inputs, len(amplitude), ctx.axis)
        fused = ctx.fused
        to_inputs = torch.ops.aten.silu_backward(gradient, inputs) if fused else torch.zeros_like(inputs)
        to_amplitude = torch.zeros(shape, dtype=amplitude.dtype, device=amplitude.device)
        scale = 8 * ctx.turns * amplitude.view(shape)
        for part, rest, size in _blocks(inputs, ctx.turns, ctx.axis):
            received = gradient[part]
            rest.addcmul_(rest, size, value=-2).mul_(received)
            to_amplitude += rest.sum_to_size(shape)
            torch.addcmul(received, received, size, value=-4, out=size)
            to_inputs[part].addcmul_(size, scale)
        return to_inputs, None if fused else gradient, to_amplitude.mul_(8).view_as(amplitude), None, None


def _blocks(inputs: Tensor, turns: float, axis: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Parts of the first axis, the distance of each input from the nearest whole turn, and its absolute value.

    The two tensors are the caller's to overwrite until the next part.
    """
    # Channels along the first axis cannot be cut apart.
    whole = inputs.device.type != "cpu" or axis in (0, -inputs.ndim)
    step = max(1, len(inputs) if whole else _BLOCK * len(inputs) // max(1, inputs.numel()))
    rest = torch.empty_like(inputs[:step])
    size = torch.empty_like(rest)
    for start in range(0, len(inputs), step):
        part = slice(start, start + step)
        count = len(inputs[part])
        near, far = rest[:count], size[:count]
        torch.mul(inputs[part], turns, out=near)
        torch.round(near, out=far)
        near.sub_(far)
        torch.abs(near, out=far)
        yield part, near, far
