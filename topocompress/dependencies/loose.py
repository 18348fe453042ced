"""Weights outside the modules that are known: parameters and buffers of the user's own layers, and shared weights."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd
from torch_pruning.dependency import Dependency
from torch_pruning.ops import OPTYPE, module2type

from topocompress.network.functions import FunctionCalls
from topocompress.network.layers import LAYERS, groups_of


class TracedBuffer(nn.Parameter):
    """A buffer for as long as a network is traced and cut, so that both see where its numbers go.

    Attributes:
        persistent: Whether it is saved with the network.
    """

    persistent = True


@contextlib.contextmanager
def buffers_traced(model: nn.Module, but: Collection[tuple[nn.Module, str]] = ()) -> Iterator[None]:
    """In this block the buffers that hold a number per channel are parameters, and buffers again afterwards.

    These are buffers of floating numbers with one axis longer than 1, of modules that torch-pruning does not know.

    Args:
        model: The network.
        but: Buffers that stay, because a forward pass writes into them.
    """
    for module in model.modules():
        if module2type(module) == OPTYPE.ELEMENTWISE and not isinstance(module, nn.RNNBase):
            for name, buffer in list(module._buffers.items()):
                written = (module, name) in but
                if (
                    buffer is not None
                    and not written
                    and buffer.is_floating_point()
                    and sum(size > 1 for size in buffer.shape) == 1
                ):
                    del module._buffers[name]
                    module._parameters[name] = _traced(buffer, name not in module._non_persistent_buffers_set)
    try:
        yield
    finally:
        put_back(model)


def put_back(model: nn.Module) -> bool:
    """Make buffers again of those that :func:`buffers_traced` has made parameters; whether there were any."""
    found = False
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if isinstance(parameter, TracedBuffer):
                del module._parameters[name]
                buffer = parameter.detach().as_subclass(Tensor).requires_grad_(False)
                module.register_buffer(name, buffer, persistent=parameter.persistent)
                found = True
    return found


def _traced(buffer: Tensor, persistent: bool) -> TracedBuffer:
    traced = TracedBuffer(buffer)
    traced.persistent = persistent
    return traced


class ComputedNorms(FunctionCalls):
    """Computes norms of traced statistics step by step; torch's own functions leave no trace of these."""

    def _call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func is F.batch_norm:
            names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
            given = {**dict(zip(names, args, strict=False)), **kwargs}
            if isinstance(given["running_mean"], TracedBuffer) and not given.get("training", False):
                shape = (1, -1, *[1] * (given["input"].ndim - 2))
                mean, variance = given["running_mean"].view(shape), given["running_var"].view(shape)
                output = (given["input"] - mean) / (variance + given.get("eps", 1e-5)).sqrt()
                output = output if given.get("weight") is None else output * given["weight"].view(shape)
                return output if given.get("bias") is None else output + given["bias"].view(shape)
        return func(*args, **kwargs)


class LooseParameters(tp.pruner.function.ParameterPruner):  # type: ignore[misc]
    """Parameters, and buffers while they are traced."""

    def prune_out_channels(self, tensor: nn.Parameter, idxs: list[int]) -> nn.Parameter:
        """Remove entries along the axis of channels."""
        kept: nn.Parameter = super().prune_out_channels(tensor, idxs)
        return _traced(kept.detach(), tensor.persistent) if isinstance(tensor, TracedBuffer) else kept

    prune_in_channels = prune_out_channels


def resize_owners(model: nn.Module, before: Mapping[str, tuple[int, ...]]) -> None:
    """Let modules say of themselves how wide they are, where a parameter or buffer of theirs has become narrower.

    Args:
        model: The network after channels were removed; changed in place.
        before: Name → shape of every parameter and buffer before.
    """
    for name, module in model.named_modules():
        if module2type(module) != OPTYPE.ELEMENTWISE or any(True for _ in module.children()):
            continue
        for key, tensor in (*module._parameters.items(), *module._buffers.items()):
            old = before.get(f"{name}.{key}" if name else key)
            if tensor is None or old is None or old == tuple(tensor.shape) or len(old) != tensor.ndim:
                continue
            changes = {(one, two) for one, two in zip(old, tensor.shape, strict=True) if one != two}
            if len(changes) != 1:
                continue
            ((was, now),) = changes
            for attribute, value in list(vars(module).items()):
                if value == was and type(value) is int:
                    setattr(module, attribute, now)
                elif isinstance(value, tuple) and [each for each in value if each != 1] == [was]:
                    setattr(module, attribute, type(value)(now if each == was else each for each in value))


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Name → shape of every parameter and buffer."""
    named = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    return {name: tuple(tensor.shape) for name, tensor in named}


def link_shared(graph: tp.DependencyGraph) -> None:
    """Let layers that share a parameter lose the same of it."""
    holders: dict[int, list[tuple[Any, str]]] = {}
    for module, node in graph.module2node.items():
        if isinstance(module, LAYERS) and groups_of(module) == 1:
            for name, parameter in module.named_parameters(recurse=False):
                holders.setdefault(id(parameter), []).append((node, name))
    for nodes in holders.values():
        for one, first in nodes:
            for two, second in nodes:
                if one is not two:
                    for axis in range(2 if first == "weight" else 1):
                        trigger, handler = _side(graph, one.module, first, axis), _side(graph, two.module, second, axis)
                        one.dependencies.append(Dependency(trigger=trigger, handler=handler, source=one, target=two))


def _side(graph: tp.DependencyGraph, layer: nn.Module, name: str, axis: int) -> Callable[..., Any]:
    """What removes entries of a layer's parameter along an axis."""
    pruner = graph.get_pruner_of_module(layer)
    filters_first = name != "weight" or not isinstance(layer, _ConvTransposeNd)
    side: Callable[..., Any] = pruner.prune_out_channels if (axis == 0) == filters_first else pruner.prune_in_channels
    return side


class InstanceNorms(tp.pruner.function.InstanceNormPruner):  # type: ignore[misc]
    """Instance norms, with statistics if they keep any."""

    def prune_out_channels(self, layer: Any, idxs: list[int]) -> Any:
        """Remove channels on either side."""
        kept = torch.tensor(sorted(set(range(layer.num_features)) - set(idxs)))
        if layer.running_mean is not None:
            layer.running_mean = layer.running_mean[kept.to(layer.running_mean.device)]
            layer.running_var = layer.running_var[kept.to(layer.running_var.device)]
        return super().prune_out_channels(layer, idxs)

    prune_in_channels = prune_out_channels


class GroupNorms(tp.pruner.function.GroupNormPruner):  # type: ignore[misc]
    """Group norms: they have fewer groups where whole ones go, and narrower ones otherwise."""

    def prune_out_channels(self, layer: nn.GroupNorm, idxs: list[int]) -> Any:
        """Remove channels on either side."""
        size = layer.num_channels // layer.num_groups
        going = Counter(channel // size for channel in set(idxs))
        if all(count == size for count in going.values()):
            layer.num_groups -= len(going)
        return super().prune_out_channels(layer, idxs)

    prune_in_channels = prune_out_channels
