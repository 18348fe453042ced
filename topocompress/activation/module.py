"""The topological activation: a plain activation plus a wave, so that one layer can fold its input and glue the folds.

    f(x) = base(x) + a_c · wave(ω x)      folds everywhere; the base is SiLU
    f(x) = base(x) - a_c · arch(x / c)    folds once, within ±c; the base is x · h(x / c), a hardswish of that width

with h(x) = clip(x/2 + 1/2, 0, 1) and arch = 4h(1-h), one arch of the same wave. Without settings x is measured in units
of its own size in the first batch, and images are folded once, everything else everywhere:

    f(x) = g · (silu(x/σ) + s a_c · wave(2x/σ))
    f(x) = g · (z · h(z / 1.5) - a_c/4 · arch(z / 1.5)),  z = x/σ

A strictly rising activation is a homeomorphism onto its image, and ReLU glues only along half lines: neither can lay
pieces of a class that lie apart onto each other, so a network needs many layers to do it. ``f`` rises and falls, maps
several intervals onto one, and each channel learns how strongly (a_c; 0 is the base alone). The formulas are ours. The
idea that an activation should simplify topology layer by layer is that of Kochar, Vengalil & Sinha, arXiv:2109.01572
(2021), whose formula we do not know.
"""

from __future__ import annotations

import copy
import math
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from topocompress.activation.fitting import fitted
from topocompress.activation.kernels import Arched, Folded, beside
from topocompress.errors import ModelError

AMPLITUDE = 1.0
FREQUENCY = 2.0
LOCAL_AMPLITUDE = 0.25
LOCAL = 1.5
"""Half-width of the arch on images, in units of their size."""
_Fit = tuple[float, float, float]
_AS_IT_COMES: _Fit = (1.0, 1.0, 1.0)


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


def arch(inputs: Tensor, half: float) -> Tensor:
    """One arch of the wave, around 0: a parabola of height 1 at 0, and 0 from ±``half`` on."""
    place = _place(inputs, half)
    return 4 * place * (1 - place)


def _place(inputs: Tensor, half: float) -> Tensor:
    """Where in ±half an input lies, as 0..1."""
    return (inputs * (0.5 / half) + 0.5).clamp(0, 1)


def _exported_place(inputs: Tensor, half: float) -> Tensor:
    if not torch.onnx.is_in_onnx_export():
        return _place(inputs, half)
    # One operator of ONNX, which torch's own hardsigmoid would be at another slope.
    return torch.onnx.ops.symbolic(
        "HardSigmoid", (inputs,), {"alpha": 0.5 / half, "beta": 0.5}, dtype=inputs.dtype, shape=inputs.shape
    )


class Hinge(nn.Module):
    """Hardswish with its bend within ±bend instead of ±3: x · clip(x / (2 bend) + 1/2, 0, 1)."""

    def __init__(self, bend: float) -> None:
        super().__init__()
        self.bend = float(bend)

    def forward(self, inputs: Tensor) -> Tensor:
        """Any shape, to the same shape."""
        place = _exported_place if torch.compiler.is_compiling() else _place
        return inputs * place(inputs, self.bend)

    def extra_repr(self) -> str:
        """The width, for ``repr``."""
        return f"{self.bend:g}"


class TopologicalActivation(nn.Module):
    """base(x) + a_c · wave(ω x), or base(x) - a_c · arch(x / c): many-to-one, with one learned amplitude per channel.

    ``TopologicalActivation(channels)`` fits itself to its inputs. In the first training batch it measures their size σ
    and over how many dimensions they spread; both stay as they are from then on and go with the state dict. With inputs
    (N, C, H, W) it folds once, within ±1.5σ. With all others it folds everywhere, at frequency 2/σ, strongly where
    inputs have few dimensions (as in a first layer) and weakly where they have many. Outputs start with mean square 1,
    so that weights may start at any scale. Evaluated before any batch, σ, strength and gain are 1.

    With a frequency, ``local`` or a base it is fitted to nothing and the formula is as given.

    Args:
        channels: How many amplitudes: the size of the channel axis, or 1 for one that all channels share.
        amplitude: Where they start; 1 if ``None``, with ``local`` 0.25. 0 with a base leaves a trained network as it
            is.
        frequency: ω, in radians per unit of the input; 2 if ``None``.
        local: c, in units of the input: one arch within ±c instead of a wave.
        base: The plain activation; SiLU if ``None``, with ``local`` a :class:`Hinge` of that width. A copy is used,
            which does not work in place.
        axis: The channel axis of inputs: 1 for (N, C) and (N, C, H, W), -1 for (N, tokens, C).

    Attributes:
        amplitude: (channels,) parameter.
        frequency: ω; ``None`` with ``local``.
        local: c; ``None`` for the wave.
        adaptive: Whether it fits itself to its inputs.
        fit: If adaptive, (4,) buffer: σ, strength, gain and 1, all 0 before the first batch. Divided by the last they
            stay right in a moving average that began before that batch.

    Raises:
        ModelError: No channel, a frequency or width that is not a positive number, or both given.
    """

    # Here too, for modules that were pickled before there were these.
    local: float | None = None
    adaptive: bool = False
    fit: Tensor
    _fit: _Fit | None = None
    _seen: tuple[int, int] | None = None
    _read_again = False

    def __init__(
        self,
        channels: int = 1,
        *,
        amplitude: float | None = None,
        frequency: float | None = None,
        local: float | None = None,
        base: nn.Module | None = None,
        axis: int = 1,
    ) -> None:
        super().__init__()
        if local is not None and frequency is not None:
            raise ModelError(
                f"a topological activation of frequency {frequency} that is local",
                hint="Give either a frequency, for a wave, or local, for a single arch.",
            )
        self.adaptive = frequency is None and local is None and base is None
        if local is None and frequency is None:
            frequency = FREQUENCY
        size = frequency if local is None else local
        if channels < 1 or size is None or not (math.isfinite(size) and size > 0):
            raise ModelError(
                f"a topological activation of {channels} channels and "
                + (f"frequency {frequency}" if local is None else f"local width {local}"),
                hint="Give 1 channel or more and a frequency or width above 0.",
            )
        if amplitude is None:
            amplitude = AMPLITUDE if local is None else LOCAL_AMPLITUDE
        self.amplitude = nn.Parameter(torch.full((channels,), float(amplitude)))
        self.frequency = None if frequency is None else float(frequency)
        self.local = None if local is None else float(local)
        self.axis = axis
        usual = nn.SiLU() if local is None else Hinge(local)
        self.base = usual if base is None else _out_of_place(base)
        if self.adaptive:
            self.register_buffer("fit", torch.zeros(4))

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
        if not self.adaptive:
            if self.local is None:
                return self._wave(inputs, self.amplitude)
            usual = type(self.base) is Hinge and self.base.bend == self.local
            return self._arch(inputs, self.local, self.amplitude, None if usual else self.base)
        if not torch.compiler.is_compiling() and self._seen != self._state():
            self._read()  # it was written to from outside
        if self.training and (self._fit is None or self._read_again):
            self._measure(inputs)
        scale, strength, gain = self._fit or _AS_IT_COMES
        if inputs.ndim == 4:
            # Scaled before, not after: ONNX Runtime folds that into the convolution in front.
            return self._arch(inputs * (gain / scale), LOCAL * gain, (LOCAL_AMPLITUDE * gain) * self.amplitude, None)
        return self._wave(inputs / scale, strength * self.amplitude) * gain

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _measure(self, inputs: Tensor) -> None:
        """Fit to the first batch; at the second, read what is kept: of several processes, each has the first one's."""
        if self._fit is None:
            rows = inputs.detach().movedim(self.axis, -1).flatten(0, -2)
            found = fitted(rows, _once if inputs.ndim == 4 else everywhere)
            if not (len(rows) > 1 and found.isfinite().all()):
                return  # nothing to measure, such as zeros alone
            self.fit.copy_(F.pad(found, (0, 1), value=1.0))
        self._read_again = self._fit is None
        self._read()

    def _state(self) -> tuple[int, int]:
        """Another one once something has been written to ``fit``; asking a GPU for its numbers each time would wait."""
        return id(self.fit), -1 if self.fit.is_inference() else self.fit._version

    def _read(self) -> None:
        if not self.fit.is_meta:
            *fit, weight = self.fit.tolist()
            self._fit = (fit[0] / weight, fit[1] / weight, fit[2] / weight) if weight > 0 else None
            self._seen = self._state()

    def train(self, mode: bool = True) -> Self:
        """As of every module."""
        if self.adaptive:
            self._read()
        return super().train(mode)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        if self.adaptive and f"{prefix}fit" not in state_dict and f"{prefix}amplitude" in state_dict:
            # From before there was a fit: the formula as it was then. (Without amplitudes it is another network's.)
            state_dict[f"{prefix}fit"] = torch.ones(4)
        super()._load_from_state_dict(state_dict, prefix, *others)
        if self.adaptive:
            self._read()

    def _wave(self, inputs: Tensor, amplitude: Tensor) -> Tensor:
        turns = (self.frequency or FREQUENCY) / (2 * math.pi)
        if torch.compiler.is_compiling():  # export: standard operators, few of them, and nothing of our own
            spread = amplitude.view(beside(inputs, self.channels, self.axis))
            exported: Tensor = self.base(inputs) + _scaled(_rest(inputs, turns), spread)
            return exported
        # The usual base is computed in one go with the wave, which spares two passes over the numbers.
        plain = None if type(self.base) is nn.SiLU else self.base(inputs)
        found: Tensor = Folded.apply(inputs, plain, amplitude, turns, self.axis)
        return found

    def _arch(self, inputs: Tensor, half: float, amplitude: Tensor, base: nn.Module | None) -> Tensor:
        """One arch on a base, or on the hinge of its own width."""
        if not torch.compiler.is_compiling():
            found: Tensor = Arched.apply(inputs, None if base is None else base(inputs), amplitude, half, self.axis)
            return found
        place = _exported_place(inputs, half)
        scale = 4 * amplitude
        if inputs.ndim == 4 and self.axis in (1, -3):
            # ONNX Runtime keeps the blocked layout of its convolutions here, which a product by channel would leave.
            width = inputs.shape[1]
            scale = scale.expand(width)
            depth = F.conv2d(place, scale.view(width, 1, 1, 1), -scale, groups=width)
        else:
            scale = scale.view(beside(inputs, self.channels, self.axis))
            depth = place * scale - scale
        exported: Tensor = place * (inputs + depth) if base is None else base(inputs) + place * depth
        return exported

    def extra_repr(self) -> str:
        """The settings, for ``repr``."""
        fold = f"frequency={self.frequency:g}" if self.local is None else f"local={self.local:g}"
        return f"{self.channels}, {'adaptive' if self.adaptive else fold}, axis={self.axis}"


def everywhere(inputs: Tensor, strength: Tensor) -> Tensor:
    """The wave on its base for inputs of size 1; strength spreads over (..., samples, channels)."""
    return F.silu(inputs) + strength * wave(inputs, FREQUENCY)


def _once(inputs: Tensor, _: Tensor) -> Tensor:
    return inputs * _place(inputs, LOCAL) - LOCAL_AMPLITUDE * arch(inputs, LOCAL)


def _out_of_place(base: nn.Module) -> nn.Module:
    copied = copy.deepcopy(base)
    for module in copied.modules():
        if hasattr(module, "inplace"):  # the wave reads what the base would overwrite
            module.inplace = False  # type: ignore[assignment]
    return copied
