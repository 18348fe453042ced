"""The activations that are compared, each as a function of its input and of its trained parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from topocompress import TopologicalActivation
from topocompress.activation import AMPLITUDE, FREQUENCY, wave

Parameters = tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Activation:
    """One activation.

    Attributes:
        name: As in the tables.
        call: Input and parameters → output.
        start: (shape of one layer's channels, shape of one layer, generator) → parameters; none by default.
    """

    name: str
    call: Callable[[Tensor, Parameters], Tensor]
    start: Callable[[tuple[int, ...], tuple[int, ...], torch.Generator], Parameters] = lambda *_: ()


def _split(inputs: Tensor, parameters: Parameters) -> Tensor:
    """ParametricSplit, Snopov & Musin, arXiv:2507.12874 (2025)."""
    angle, slope = parameters
    edge, height = torch.cos(angle), torch.sin(angle)
    left = slope * (inputs + edge) - height
    middle = inputs * torch.tan(angle)
    right = inputs + height - edge
    return torch.where(inputs <= -edge, left, torch.where(inputs < edge, middle, right))


def _split_start(_: tuple[int, ...], layer: tuple[int, ...], generator: torch.Generator) -> Parameters:
    # As its authors' code starts it: one angle in 0..π/2 and one slope in 0..1 for each layer.
    return torch.rand(layer, generator=generator) * math.pi / 2, torch.rand(layer, generator=generator)


def _snake(inputs: Tensor, parameters: Parameters) -> Tensor:
    """Snake, Ziyin, Hartwig & Ueda, NeurIPS 2020, arXiv:2006.08195; one trained frequency per channel."""
    (frequency,) = parameters
    return inputs + torch.sin(frequency * inputs) ** 2 / frequency


OURS = "topological"
ACTIVATIONS = {
    each.name: each
    for each in (
        Activation(
            name=OURS,
            call=lambda x, p: F.silu(x) + p[0] * wave(x, FREQUENCY),
            start=lambda channels, *_: (torch.full(channels, AMPLITUDE),),
        ),
        Activation(name="ReLU", call=lambda x, _: F.relu(x)),
        Activation(name="GELU", call=lambda x, _: F.gelu(x)),
        Activation(name="SiLU", call=lambda x, _: F.silu(x)),
        Activation(name="Mish", call=lambda x, _: F.mish(x)),
        Activation(name="tanh", call=lambda x, _: torch.tanh(x)),
        Activation(name="leaky ReLU", call=lambda x, _: F.leaky_relu(x, 0.01)),
        Activation(name="|x|", call=lambda x, _: torch.abs(x)),
        Activation(name="Snake", call=_snake, start=lambda channels, *_: (torch.ones(channels),)),
        Activation(name="x·cos x", call=lambda x, _: x * torch.cos(x)),
        Activation(name="ParametricSplit", call=_split, start=_split_start),
    )
}
SMOOTH = ("GELU", "SiLU", "Mish", "tanh")
"""Today's best, against which the bars are set besides ReLU."""


class Layer(nn.Module):
    """An activation as a layer of an ordinary network, for inputs (N, C, H, W)."""

    def __init__(self, activation: Activation, channels: int, generator: torch.Generator) -> None:
        super().__init__()
        self._call = activation.call
        started = activation.start((channels, 1, 1), (1,), generator)
        self.values = nn.ParameterList(nn.Parameter(value) for value in started)

    def forward(self, inputs: Tensor) -> Tensor:
        """The same shape."""
        return self._call(inputs, tuple(self.values))


def layer(name: str, channels: int, generator: torch.Generator, *, local: float | None = None) -> nn.Module:
    """A new activation layer; ours is the product's own module, which takes the width of its one arch."""
    if name == OURS:
        return TopologicalActivation(channels, local=local)
    return Layer(ACTIVATIONS[name], channels, generator)


def gain(activation: Activation, channels: tuple[int, ...], one: tuple[int, ...]) -> float:
    """What weights are multiplied by so that standard normal inputs leave the layer with a mean square of 1."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(channels[0], 4096, channels[-1], generator=generator)
    squares = activation.call(inputs, activation.start(channels, one, generator)).square().mean()
    return float(squares.rsqrt())
