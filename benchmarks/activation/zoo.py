"""The activations that are compared, each as a function of its input and of its trained parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from benchmarks.activation import ours
from topocompress import TopologicalActivation
from topocompress.activation.module import AMPLITUDE, wave

Parameters = tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Activation:
    """One activation.

    Attributes:
        name: As in the tables.
        call: Input and parameters → output.
        start: (shape of one layer's channels, shape of one layer, generator) → parameters; none by default.
        settle: Input of the first batch, (runs, samples, channels) → constants that follow the parameters in ``call``.
        compiled: The same function in a form to compile for 16 bits, where the operator behind ``call`` is slow.
    """

    name: str
    call: Callable[[Tensor, Parameters], Tensor]
    start: Callable[[tuple[int, ...], tuple[int, ...], torch.Generator], Parameters] = lambda *_: ()
    settle: Callable[[Tensor], Parameters] | None = None
    compiled: Callable[[Tensor, Parameters], Tensor] | None = None


def _mish(inputs: Tensor, _: Parameters) -> Tensor:
    """Mish by one exponential: tanh(log(1 + e)) = n / (n + 2) with n = e (e + 2)."""
    e = inputs.clamp(max=20).exp()
    n = e * (e + 2)
    return inputs * (n / (n + 2))


class QuickMish(Function):
    """Mish with a slope by the same exponential, several times as fast as torch's on a CPU."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:
        """Any shape, to the same."""
        e = inputs.clamp(max=20).exp_()
        gate = torch.addcmul(2 * e, e, e)
        gate.div_(gate + 2)
        ctx.save_for_backward(inputs, gate, e)
        return inputs * gate

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """gate + x (1 - gate²) sigmoid(x)."""
        inputs, gate, e = ctx.saved_tensors
        rest = torch.addcmul(inputs, inputs, gate.square(), value=-1).mul_(e / (1 + e))
        return rest.add_(gate).mul_(gradient)


def _mish_here(inputs: Tensor, _: Parameters) -> Tensor:
    found: Tensor = QuickMish.apply(inputs) if inputs.device.type == "cpu" else F.mish(inputs)
    return found


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
FIXED = f"{OURS}, frequency 2"
"""One setting in all layers, whatever their inputs are like."""
ACTIVATIONS = {
    each.name: each
    for each in (
        Activation(
            name=OURS,
            call=ours.call,
            start=lambda channels, *_: (torch.full(channels, AMPLITUDE),),
            settle=ours.fit,
        ),
        Activation(
            name=FIXED,
            call=lambda x, p: ours.Waved.apply(x, p[0]),
            start=lambda channels, *_: (torch.full(channels, AMPLITUDE),),
        ),
        Activation(name="ReLU", call=lambda x, _: F.relu(x)),
        Activation(name="GELU", call=lambda x, _: F.gelu(x)),
        Activation(name="SiLU", call=lambda x, _: F.silu(x)),
        Activation(name="Mish", call=_mish_here, compiled=_mish),
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


LOCAL = 1.5
"""Ours folds images once, within ± so much of 0."""


def _constant(value: float) -> Callable[[tuple[int, ...], tuple[int, ...], torch.Generator], Parameters]:
    return lambda channels, *_: (torch.full(channels, value),)


def _sum(
    base: Callable[[Tensor], Tensor], added: Callable[[Tensor], Tensor], amplitude: float, name: str
) -> Activation:
    return Activation(name=name, call=lambda x, p: base(x) + p[0] * added(x), start=_constant(amplitude))


def _arch(inputs: Tensor, half: float) -> Tensor:
    """One arch of the wave, around 0: a parabola of height 1 that ends at ±half."""
    place = (inputs / (2 * half) + 0.5).clamp(0, 1)
    return 4 * place * (1 - place)


def _dip(inputs: Tensor, width: float) -> Tensor:
    """One arch below 0, from -width to 0."""
    return _arch(inputs + width / 2, width / 2)


def _turn(inputs: Tensor, half: float) -> Tensor:
    """One whole turn of the wave, an arch down and an arch up, within ±half."""
    return _arch(inputs - half / 2, half / 2) - _arch(inputs + half / 2, half / 2)


def _hinge(inputs: Tensor, half: float) -> Tensor:
    """Hardswish with its bend between ±half instead of ±3."""
    return inputs * (inputs / (2 * half) + 0.5).clamp(0, 1)


_BASES: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "mish": F.mish,
    **{f"hinge({half:g})": partial(_hinge, half=half) for half in (1.0, 1.5, 2.0, 3.0)},
}
_FOLDS: dict[str, Callable[..., Tensor]] = {"arch": _arch, "dip": _dip, "turn": _turn}


def folding(base: str, amplitude: float, fold: str, width: float) -> Activation:
    """A base minus one fold, whose amplitude is learned."""
    added = partial(_FOLDS[fold], **{"width" if fold == "dip" else "half": width})
    sign = "-" if amplitude >= 0 else "+"
    name = f"{base} {sign} {abs(amplitude):g} {fold}({width:g})"
    return _sum(_BASES[base], added, -amplitude, name)


IMAGE = folding("hinge(1.5)", 0.25, "arch", LOCAL)
"""Ours in CNNs, as the product's module computes it."""
CANDIDATES = {
    each.name: each
    for each in (
        IMAGE,
        folding("silu", 0.25, "arch", 1.5),
        folding("silu", 0.5, "arch", 1.5),
        folding("silu", 0.25, "arch", 3),
        folding("silu", 0.0, "arch", 1.5),
        folding("mish", 0.25, "arch", 1.5),
        folding("gelu", 0.25, "arch", 1.5),
        folding("gelu", 0.5, "arch", 1.5),
        folding("hinge(1)", 0.25, "arch", 1),
        folding("hinge(1.5)", 0.5, "dip", 1.5),
        folding("silu", 0.5, "dip", 3),
        folding("silu", 0.25, "turn", 3),
        _sum(F.silu, partial(wave, frequency=0.7), 0.5, "silu + 0.5 wave(0.7x)"),
    )
}
"""What was tried on images, the amplitude always learned."""


FIRST = f"{OURS}, in the first layer"
FIRST_FREQUENCY = 4.0


def in_first_layer(
    layers: int,
    *,
    frequency: float = FIRST_FREQUENCY,
    amplitude: float = AMPLITUDE,
    waves: int = 1,
    behind: str = "SiLU",
) -> list[Activation]:
    """Ours in the first of some layers, by default at twice its usual frequency, and SiLU in the others.

    Args:
        layers: How many there are.
        frequency: Of the wave.
        amplitude: That it starts with.
        waves: Layers that have it.
        behind: What the others have.
    """
    first = _sum(F.silu, partial(wave, frequency=frequency), amplitude, FIRST)
    return [*[first] * waves, *[ACTIVATIONS[behind]] * (layers - waves)]


class Layer(nn.Module):
    """An activation as a layer of an ordinary network, for inputs (N, C, H, W), or (N, C) with no axes after C."""

    def __init__(self, activation: Activation, channels: int, generator: torch.Generator, *, axes: int = 2) -> None:
        super().__init__()
        self._call = activation.call
        started = activation.start((channels, *[1] * axes), (1,), generator)
        # On a GPU in one pass over the numbers each way, as those of a single operator are.
        self._fused = torch.compile(activation.call, dynamic=False) if started else activation.call
        self._half = torch.compile(activation.compiled, dynamic=False) if activation.compiled else self._fused
        self.values = nn.ParameterList(nn.Parameter(value) for value in started)

    def forward(self, inputs: Tensor) -> Tensor:
        """The same shape."""
        fused = self._fused if inputs.is_cuda else self._call
        return (self._half if inputs.dtype == torch.bfloat16 else fused)(inputs, tuple(self.values))


class Ours(nn.Module):
    """The product's own module, on a GPU computed by the formula above: in one pass each way, as the others are."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.module = TopologicalActivation(channels, local=LOCAL)
        self._fused = torch.compile(IMAGE.call, dynamic=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """The same shape."""
        if inputs.is_cuda:
            return self._fused(inputs, (-self.module.amplitude.view(-1, 1, 1),))
        return self.module(inputs)


def layer(name: str, channels: int, generator: torch.Generator) -> nn.Module:
    """A new activation layer for images."""
    return Ours(channels) if name == OURS else Layer({**ACTIVATIONS, **CANDIDATES}[name], channels, generator)


def gain(activation: Activation, channels: tuple[int, ...], one: tuple[int, ...]) -> float:
    """What weights are multiplied by so that standard normal inputs leave the layer with a mean square of 1."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(channels[0], 4096, channels[-1], generator=generator)
    squares = activation.call(inputs, activation.start(channels, one, generator)).square().mean()
    return float(squares.rsqrt())
