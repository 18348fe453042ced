"""The product's default activation for stacked networks, where every run has an amplitude and a fit of its own."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from topocompress.activation.fitting import fitted
from topocompress.activation.module import FREQUENCY, everywhere, wave

TURNS = FREQUENCY / (2 * math.pi)


def fit(inputs: Tensor) -> tuple[Tensor, ...]:
    """(runs, samples, channels) of the first batch → scale, strength and gain, each (runs, 1, 1)."""
    found = fitted(inputs, everywhere)
    return tuple(each[:, None, None] for each in found.unbind(-1))


def call(inputs: Tensor, parameters: tuple[Tensor, ...]) -> Tensor:
    """(runs, samples, channels), with amplitudes (runs, 1, channels) and, once there is one, the fit."""
    amplitude, *known = parameters
    scale, strength, gain = known or [torch.ones(())] * 3
    found: Tensor = Waved.apply(inputs / scale, strength * amplitude)
    return found * gain


class Waved(Function):
    """silu(z) + amplitude · wave(2z), in fewer passes over the numbers than autograd takes."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, amplitude: Tensor) -> Tensor:
        """(runs, samples, channels), or any shape over which the amplitudes spread."""
        ctx.save_for_backward(inputs, amplitude)
        return torch.addcmul(F.silu(inputs), wave(inputs, FREQUENCY), amplitude)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """To the inputs and the amplitudes."""
        inputs, amplitude = ctx.saved_tensors
        rest = inputs * TURNS
        rest.sub_(rest.round())
        size = rest.abs()
        to_amplitude = (rest.addcmul_(rest, size, value=-2).mul_(gradient)).sum_to_size(amplitude.shape) * 8
        slope = torch.addcmul(gradient, gradient, size, value=-4)
        sent = torch.ops.aten.silu_backward(gradient, inputs)
        return sent.addcmul_(slope, (8 * TURNS) * amplitude), to_amplitude
