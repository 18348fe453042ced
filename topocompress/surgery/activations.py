"""Topological activations in place of a trained network's plain ones: swapped in, folded back, built again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from topocompress.activation.module import Hinge, TopologicalActivation
from topocompress.errors import ModelError
from topocompress.network.copying import copied
from topocompress.network.functions import FunctionCalls
from topocompress.network.inference import evaluating, run_forward

PLAIN = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Hardswish,
    Hinge,
    nn.Tanh,
)
"""Activation modules that can be swapped."""

TOLERANCE = 1e-3
"""An amplitude this near 0 counts as 0."""

_FUNCTIONS: tuple[Callable[..., Any], ...] = (
    F.relu,
    F.relu_,
    F.relu6,
    F.leaky_relu,
    F.elu,
    F.celu,
    F.selu,
    F.gelu,
    F.silu,
    F.mish,
    F.hardswish,
    F.tanh,
    torch.relu,
    torch.relu_,
    torch.tanh,
    Tensor.relu,
    Tensor.relu_,
    Tensor.tanh,
)
_CALLS = frozenset(_FUNCTIONS)


@dataclass(frozen=True, kw_only=True)
class Swapped:
    """What :func:`swap_activations` returns.

    Attributes:
        model: A copy of the network that computes the same, with amplitudes to be learned.
        swapped: Names of the activations that were swapped.
        left: What was not: ``name (why)`` for a module, ``function in name`` for a call inside a forward pass.
    """

    model: nn.Module
    swapped: tuple[str, ...]
    left: tuple[str, ...]


@dataclass
class _Seen:
    """What one activation module received in one forward pass: channels and channel axis of each call."""

    calls: set[tuple[int, int]] = field(default_factory=set)


def swap_activations(
    model: nn.Module,
    example: Tensor,
    *,
    amplitude: float = 0.0,
    frequency: float | None = None,
    local: float | None = None,
) -> Swapped:
    """Give every activation module of a network a wave of its own; with amplitude 0 it computes exactly what it did.

    The plain activation stays as the base. Amplitudes are per channel; a module that is called with several widths gets
    a single one. Activations that are functions in a forward pass cannot be swapped from outside; they are listed.

    Args:
        model: The network; left as it was.
        example: (1, C, H, W), or whatever it takes: one forward pass shows which activations see how many channels.
        amplitude: Where amplitudes start.
        frequency: ω, in radians per unit of an activation's input; 2 if ``None``.
        local: c, in units of an activation's input: one arch within ±c instead of a wave.

    Raises:
        ModelError: No activation of the network can be swapped, it does not run on the example, or a setting makes no
            sense.
    """
    swapped = copied(model)
    seen, calls = _watch(swapped, example)
    names: dict[nn.Module, list[str]] = {}
    for name, module in swapped.named_modules(remove_duplicate=False):
        if module in seen:
            names.setdefault(module, []).append(name)
    left = []
    for module, found in names.items():
        if not seen[module].calls:
            left.append(f"{found[0]} (not called)")
            continue
        (channels, axis), *others = sorted(seen[module].calls)
        new = TopologicalActivation(
            1 if others else channels,
            amplitude=amplitude,
            frequency=frequency,
            local=local,
            base=module,
            axis=axis,
        )
        _put(swapped, found, new.train(module.training), like=_reference(swapped))
    left += calls
    done = tuple(found[0] for module, found in names.items() if seen[module].calls)
    if not done:
        raise ModelError(
            f"no activation of {type(model).__name__} can be swapped"
            + (f"; called inside forward: {some(calls)}" if calls else ""),
            hint="Make its activations modules, such as torch.nn.ReLU, one for each place.",
        )
    return Swapped(model=swapped, swapped=done, left=tuple(left))


def some(names: Sequence[str]) -> str:
    """The first of many names, for a sentence."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def fold_back(model: nn.Module, *, tolerance: float = TOLERANCE) -> nn.Module:
    """A copy in which amplitudes near 0 are 0, and a wave without any other is gone: its plain activation is left.

    One that has fitted itself to its inputs stays, its amplitudes 0: its plain activation alone is of another scale.

    Args:
        model: The network; left as it was.
        tolerance: Largest absolute amplitude that counts as 0.
    """
    folded = copied(model)
    for module, names in _waves(folded).items():
        with torch.no_grad():
            module.amplitude[module.amplitude.abs() <= tolerance] = 0
        if not (module.adaptive or module.amplitude.any()):
            _put(folded, names, module.base.train(module.training))
    return folded


@dataclass(frozen=True, kw_only=True)
class Wave:
    """How one topological activation can be built again.

    Attributes:
        names: Its module and others that share it.
        channels: Channels with an amplitude of their own.
        axis: Axis of the channels.
        frequency: Of the wave; ``None`` where it is local, or fits itself to its inputs.
        local: Width of a wave around zero; ``None`` where it goes on for ever, or fits itself to its inputs.
    """

    names: tuple[str, ...]
    channels: int
    axis: int
    frequency: float | None = None
    local: float | None = None


def describe_waves(model: nn.Module) -> list[Wave]:
    """How the topological activations of a network can be built again, by :func:`restore_waves`."""
    return [
        Wave(
            names=tuple(names),
            channels=module.channels,
            axis=module.axis,
            frequency=None if module.adaptive or module.local is not None else module.frequency,
            local=module.local,
        )
        for module, names in _waves(model).items()
    ]


def restore_waves(model: nn.Module, entries: Iterable[Wave]) -> None:
    """Give a network the topological activations that are described, and no others, in place; their amplitudes are 0.

    They go around plain ones. One that the network has by itself is replaced if it is described; if it is not, it had
    been folded back, and its base is left.

    Raises:
        ModelError: The network has no module of such a name.
    """
    listed: set[str] = set()
    for entry in entries:
        names = list(entry.names)
        listed.update(names)
        try:
            base = model.get_submodule(names[0])
        except AttributeError as error:
            raise ModelError(f"the network has no activation {names[0]}") from error
        if isinstance(base, TopologicalActivation):
            base = base.base
        adaptive = entry.frequency is None and entry.local is None
        new = TopologicalActivation(
            entry.channels,
            amplitude=0.0,
            frequency=entry.frequency,
            local=entry.local,
            base=None if adaptive else base,
            axis=entry.axis,
        )
        _put(model, names, new.train(base.training))
    for module, own in _waves(model).items():
        if listed.isdisjoint(own):
            _put(model, own, module.base.train(module.training))


def _waves(model: nn.Module) -> dict[TopologicalActivation, list[str]]:
    found: dict[TopologicalActivation, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, TopologicalActivation):
            found.setdefault(module, []).append(name)
    return found


def _reference(model: nn.Module) -> Tensor | None:
    return next((each for each in model.parameters() if each.is_floating_point()), None)


def _put(model: nn.Module, names: Iterable[str], module: nn.Module, *, like: Tensor | None = None) -> None:
    if like is not None:
        module.to(like)
    for name in names:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, module)


class _Calls(FunctionCalls):
    """Notes activation functions that are called outside activation modules."""

    def __init__(self, active: list[tuple[str, nn.Module]]) -> None:
        super().__init__()
        self._active = active
        self.found: dict[str, None] = {}

    def _call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inside = any(isinstance(module, (*PLAIN, TopologicalActivation)) for _, module in self._active)
        if func in _CALLS and not inside:
            name = self._active[-1][0] if self._active else ""
            self.found[f"{getattr(func, '__name__', 'a function')} in {name or 'the network'}"] = None
        return func(*args, **kwargs)


def _watch(model: nn.Module, example: Tensor) -> tuple[dict[nn.Module, _Seen], list[str]]:
    """Run the example: what each plain activation module receives, and activation functions that are no modules."""
    bases = {inner for wave in _waves(model) for inner in wave.modules()}
    plain = (module for module in model.modules() if isinstance(module, PLAIN) and module not in bases)
    seen: dict[nn.Module, _Seen] = {module: _Seen() for module in plain}
    active: list[tuple[str, nn.Module]] = []
    linear = [False]

    def enter(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            active.append((name, module))
            if module in seen and inputs and isinstance(inputs[0], Tensor) and inputs[0].ndim > 1:
                # After a linear layer channels lie last, after a convolution they follow the samples.
                axis = -1 if linear[0] and inputs[0].ndim > 2 else 1
                seen[module].calls.add((inputs[0].shape[axis], axis))

        return hook

    def leave(module: nn.Module, *_: Any) -> None:
        active.pop()
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            linear[0] = isinstance(module, nn.Linear)

    with contextlib.ExitStack() as stack:
        for name, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(enter(name)).remove)
            stack.callback(module.register_forward_hook(leave).remove)
        stack.enter_context(evaluating(model))
        calls = stack.enter_context(_Calls(active))
        run_forward(model, example)
    return seen, list(calls.found)
