"""Where a filter's map is read: after the normalisation and the activation that follow its layer.

The chain is followed whether its links are modules or function calls; a module that normalises is one link, whatever it
calls inside, its activation included. Anything else (an addition, a concatenation, a pooling) ends the chain, and the
map is taken before it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from topocompress.activation.module import Hinge, TopologicalActivation
from topocompress.network.functions import FunctionCalls
from topocompress.network.inference import evaluating, run_forward
from topocompress.network.memory_layout import laid_out

FOLLOWED: frozenset[Callable[..., Any]] = frozenset(
    {
        F.batch_norm,
        F.group_norm,
        F.instance_norm,
        F.layer_norm,
        F.relu,
        F.relu_,
        F.relu6,
        F.hardtanh,
        F.hardswish,
        F.leaky_relu,
        F.elu,
        F.selu,
        F.celu,
        F.gelu,
        F.silu,
        F.mish,
        F.softplus,
        F.prelu,
        F.dropout,
        F.dropout1d,
        F.dropout2d,
        F.dropout3d,
        torch.relu,
        torch.relu_,
        torch.tanh,
        Tensor.relu,
        Tensor.relu_,
        Tensor.tanh,
        Tensor.contiguous,
    }
)

_IN_PLACE = re.compile(r"[a-z0-9_]*[a-z0-9]_|__i(add|sub|mul|truediv|floordiv|mod|pow|and|or|xor)__|__setitem__")


class _AllDelivered(BaseException):
    """Ends a forward pass from which nothing more is wanted; no model's ``except Exception`` holds it up."""


class HookPoints(FunctionCalls):
    """Follows each hooked layer's output through norm and activation and hands it over before anything else."""

    def __init__(self, deliver: Callable[[str, Tensor], None], waiting: set[str]) -> None:
        super().__init__()
        self._hand_over = deliver
        self._waiting = waiting
        self._open: dict[int, tuple[str, Tensor]] = {}
        self._inside: dict[nn.Module, tuple[str, Tensor]] = {}
        self.norms: dict[str, nn.Module] = {}
        """Layer → the first norm module behind it."""

    def open(self, layer: str, output: Tensor) -> None:
        """Follow a layer's output."""
        self._open[id(output)] = (layer, output)

    def enter(self, norm: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Follow a map into a module that is one link of the chain."""
        if inputs and id(inputs[0]) in self._open:
            self._inside[norm] = self._open.pop(id(inputs[0]))
            if normalises(norm):
                self.norms.setdefault(self._inside[norm][0], norm)

    def leave(self, norm: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
        """Follow it out again."""
        if norm in self._inside:
            layer, _ = self._inside.pop(norm)
            self.open(layer, output)

    def _deliver(self, layer: str, output: Tensor) -> None:
        self._hand_over(layer, output)
        self._waiting.discard(layer)
        if not self._waiting:
            raise _AllDelivered

    def finish(self) -> None:
        """Hand over what nothing has read."""
        for layer, output in self._open.values():
            self._hand_over(layer, output)
        self._open.clear()

    def abandon(self) -> None:
        """Follow nothing any more."""
        self._open.clear()
        self._inside.clear()

    def _call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._open:
            return func(*args, **kwargs)
        if func in FOLLOWED and args and id(args[0]) in self._open:
            layer, _ = self._open.pop(id(args[0]))
            output = func(*args, **kwargs)
            self._open[id(output)] = (layer, output)
            return output
        read = [id(value) for value in tensors_in((*args, *kwargs.values())) if id(value) in self._open]
        in_place = kwargs.get("out") is not None or _IN_PLACE.fullmatch(getattr(func, "__name__", ""))
        if read and in_place:  # before the map is overwritten
            self._close(read)
        output = func(*args, **kwargs)
        if read and not in_place and any(True for _ in tensors_in((output,))):  # shape queries do not end the chain
            self._close(read)
        return output

    def _close(self, read: Iterable[int]) -> None:
        for key in read:
            if key in self._open:
                self._deliver(*self._open.pop(key))


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """Every tensor among the values, and within their tuples and lists."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from tensors_in(value)


@contextlib.contextmanager
def hooked(
    model: nn.Module,
    layers: Collection[str],
    deliver: Callable[[str, Tensor], None],
    *,
    order: list[str] | None = None,
    whole: bool = False,
    layout: torch.memory_format = torch.contiguous_format,
) -> Iterator[Callable[[Tensor], None]]:
    """Yield a function that runs a batch and delivers each layer's maps as (batch, channels, ...).

    The model runs in evaluation mode; mode, random state and hooks are as before on the way out.

    Args:
        model: The network; left as it was.
        layers: Names of modules whose output is (batch, channels, ...), or (batch, ..., channels) for Linear.
        deliver: Called with a layer's name and its maps, as soon as they are there.
        order: Receives the names of the layers as they run; maps may be delivered in another order.
        whole: Run every batch through the whole network; otherwise a pass ends when all maps are delivered.
        layout: How images lie in memory; see :func:`topocompress.network.memory_layout.fast_layout`.
    """
    modules = dict(model.named_modules())
    waiting: set[str] = set()

    def deliver_maps(layer: str, output: Tensor) -> None:
        deliver(layer, output.movedim(-1, 1) if isinstance(modules[layer], nn.Linear) else output)

    points = HookPoints(deliver_maps, waiting)

    def run(images: Tensor) -> None:
        waiting.update(["", *layers] if whole else layers)
        try:
            with points:
                run_forward(model, laid_out(images.to(device), layout))
            points.finish()
        except _AllDelivered:
            points.abandon()

    with evaluating(model) as device, with_hooks(model, layers, points, order):
        yield run


@contextlib.contextmanager
def with_hooks(
    model: nn.Module, layers: Iterable[str], points: HookPoints, order: list[str] | None = None
) -> Iterator[None]:
    """Let layers and norms tell ``points`` what they compute; their hooks are gone on the way out."""

    def hook(layer: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def opened(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            if order is not None:
                order.append(layer)
            points.open(layer, output)

        return opened

    modules = dict(model.named_modules())
    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.callback(modules[layer].register_forward_hook(hook(layer)).remove)
        for module in filter(_is_link, modules.values()):
            stack.callback(module.register_forward_pre_hook(points.enter).remove)
            stack.callback(module.register_forward_hook(points.leave).remove)
        yield


def following_norms(model: nn.Module, layers: Collection[str], example: Tensor) -> dict[str, nn.Module]:
    """The first norm module behind each layer; a layer that none follows is missing.

    Args:
        model: The network; left as it was.
        layers: Names of convolutions or linear layers.
        example: (1, C, H, W) input.
    """
    points = HookPoints(lambda _layer, _output: None, {""})
    with evaluating(model) as device, with_hooks(model, layers, points), points:
        run_forward(model, example.to(device))
    points.abandon()
    return points.norms


def _is_link(module: nn.Module) -> bool:
    """Whether a map is followed through a module as a whole: a norm, or an activation in several steps."""
    return normalises(module) or isinstance(module, TopologicalActivation | Hinge)


def normalises(module: nn.Module) -> bool:
    """Whether a module is a norm, of torch's kinds or one with frozen statistics, with or without an activation."""
    frozen = isinstance(getattr(module, "running_mean", None), Tensor)
    return frozen or isinstance(module, (_BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm))
