"""Where a layer's output is added to a stream, and how to hold on to what it is added to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from topocompress.network.functions import FunctionCalls
from topocompress.network.hook_points import tensors_in
from topocompress.network.inference import evaluating, run_forward
from topocompress.reconstruction.calls import Product, product_of

_SUMS = {torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__iadd__, Tensor.__radd__}
_PASSES = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, Tensor.contiguous}


@dataclass(frozen=True, kw_only=True)
class Stream:
    """The sum that a layer's output goes into.

    Attributes:
        norm: BatchNorm between the layer and the sum; empty for none.
        other: Number of the call that gives the other summand, before the layer runs; -1 for the network's input.
    """

    norm: str
    other: int


@dataclass(frozen=True, kw_only=True)
class Order:
    """What running a network once has shown.

    Attributes:
        layers: Names of the layers that run once and give just what their own weights make of what they read, in the
            order in which they run.
        streams: Layer → the sum its output goes into, if its other summand is there before.
        norms: Layer → BatchNorm right behind it.
        shapes: Layer → shape of its output for the example.
    """

    layers: tuple[str, ...]
    streams: Mapping[str, Stream]
    norms: Mapping[str, str]
    shapes: Mapping[str, torch.Size]


class _Numbering(FunctionCalls):
    """Numbers the calls that a network makes: the same in every pass."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self._paused = False

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Calls made inside are not the network's, and get no number."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def called(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Make the call that has the number :attr:`calls`."""
        return func(*args, **kwargs)

    def _call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._paused:
            return func(*args, **kwargs)
        output = self.called(func, args, kwargs)
        self.calls += 1
        return output


class _Watching(_Numbering):
    """Follows layers' outputs through BatchNorm to a sum."""

    def __init__(self, inputs: Tensor, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self._owners = {id(layer.weight): name for name, layer in layers.items()}
        self._layers = layers
        self.products: dict[str, list[int]] = {}
        self.made: dict[int, int] = {id(inputs): -1}
        self.held: list[Any] = [inputs]  # so that an id stays its own
        self.following: dict[int, tuple[str, str]] = {}
        self.started: dict[str, int] = {}
        self.streams: dict[str, Stream] = {}
        self.norms: dict[str, str] = {}

    def called(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See :class:`_Numbering`."""
        read = [value for value in tensors_in((*args, *kwargs.values())) if id(value) in self.following]
        if func in _SUMS and len(args) == 2 and all(isinstance(arg, Tensor) for arg in args):
            self._note_sum(args[0], args[1])
            self._note_sum(args[1], args[0])
        output = func(*args, **kwargs)
        self._note_product(product_of(func, args, kwargs), output)
        found = list(tensors_in((output,)))
        if found:
            for value in read:
                layer = self.following.pop(id(value), None)
                if layer and func in _PASSES:
                    self.following[id(output)] = layer
        for value in found:
            self.made[id(value)] = self.calls
            self.held.append(value)
        return output

    def _note_product(self, product: Product | None, output: Any) -> None:
        name = None if product is None else self._owners.get(id(product.weight))
        if product is not None and name is not None:
            layer = self._layers[name]
            own = product.bias is layer.bias and product.groups == getattr(layer, "groups", 1)
            self.products.setdefault(name, []).append(id(output) if own else -1)

    def _note_sum(self, mine: Tensor, other: Tensor) -> None:
        if id(mine) not in self.following or mine.shape != other.shape or id(other) not in self.made:
            return
        layer, norm = self.following[id(mine)]
        if self.made[id(other)] < self.started[layer]:
            self.streams[layer] = Stream(norm=norm, other=self.made[id(other)])


def order_of(model: nn.Module, example: Tensor, layers: Collection[str]) -> Order:
    """Run the network once and see in what order layers run and into which sums their outputs go.

    Args:
        model: The network; left as it was.
        example: (1, ...) input on its device.
        layers: Names of the layers of interest.
    """
    modules, ran, entered = dict(model.named_modules()), list[str](), dict[nn.Module, tuple[str, str]]()
    names = {module: name for name, module in modules.items()}
    watch = _Watching(example, {name: modules[name] for name in layers})
    shapes: dict[str, torch.Size] = {}
    gives: dict[str, int] = {}

    def start(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            ran.append(name)
            watch.started[name] = watch.calls

        return hook

    def follow(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                watch.following[id(output)] = (name, "")
                gives[name] = id(output)
                with watch.paused():
                    shapes[name] = output.shape

        return hook

    def enter(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs and id(inputs[0]) in watch.following:
            entered[norm] = watch.following[id(inputs[0])]

    def leave(norm: nn.Module, _inputs: Any, output: Any) -> None:
        if norm in entered:
            layer, before = entered.pop(norm)
            if not before:
                watch.norms[layer] = names[norm]
                watch.following[id(output)] = (layer, names[norm])

    handles = []
    for name in layers:
        handles.append(modules[name].register_forward_pre_hook(start(name)))
        handles.append(modules[name].register_forward_hook(follow(name)))
    for module in modules.values():
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            handles.append(module.register_forward_pre_hook(enter))
            handles.append(module.register_forward_hook(leave))
    try:
        with evaluating(model), watch:
            run_forward(model, example)
    finally:
        for handle in handles:
            handle.remove()
    once = tuple(name for name in ran if ran.count(name) == 1 and watch.products.get(name) == [gives.get(name)])
    return Order(
        layers=once,
        streams={name: stream for name, stream in watch.streams.items() if name in once},
        norms={name: norm for name, norm in watch.norms.items() if name in once},
        shapes=shapes,
    )


class Holding(_Numbering):
    """Holds what some of the calls give.

    Attributes:
        outputs: Number of a call → what it gave, for those that are wanted.
    """

    def __init__(self, inputs: Tensor, wanted: Collection[int]) -> None:
        super().__init__()
        self._wanted = frozenset(wanted)
        self.outputs: dict[int, Tensor] = {-1: inputs} if -1 in self._wanted else {}

    def called(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See :class:`_Numbering`."""
        output = func(*args, **kwargs)
        if self.calls in self._wanted and isinstance(output, Tensor):
            self.outputs[self.calls] = output
        return output


class Cutting(Holding):
    """Holds what some of the calls give, and lets no gradient pass there."""

    def called(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """See :class:`_Numbering`."""
        output = super().called(func, args, kwargs)
        return output.detach() if self.calls in self.outputs else output
