"""The unpruned network made so that no layer reads the channels that a plan removes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from topocompress.dependencies.tracing import Part
from topocompress.network.layers import LAYERS, RECURRENT, FilterLayer, groups_of, input_weights, separates, width_of

Reader = FilterLayer | nn.RNNBase


def readers(model: nn.Module) -> dict[str, Reader]:
    """Every layer that weighs channels: linear and recurrent ones, and convolutions of any kind."""
    return {name: module for name, module in model.named_modules() if isinstance(module, (*LAYERS, RECURRENT))}


def mask(modules: dict[str, Reader], left: dict[str, list[int]], part: Part, group: Any) -> None:
    """In the unpruned network, let no layer read the channels that go.

    Channels already pruned from the graph shift the indices of those still there, so ``left`` remembers which of its
    original inputs each layer still has.

    Args:
        modules: The :func:`readers` of the unpruned network, changed in place.
        left: Layer → the inputs it still has, in the unpruned network's numbers; changed in place.
        part: Where the group was found.
        group: What is about to be pruned, as torch-pruning has it.
    """
    for dep, idxs in group.items:
        module = dep.target.module
        if part.graph.is_out_channel_pruning_fn(dep.handler) or not isinstance(module, (*LAYERS, RECURRENT)):
            continue
        if separates(module):  # what goes in comes out again, and is masked where that is read
            continue
        name = ".".join(filter(None, (part.name, part.graph._module2name[module])))
        twin = modules[name]
        before = left.setdefault(name, list(range(width_of(twin, out=False))))
        gone = {before[index] for index in idxs}
        left[name] = [index for index in before if index not in gone]
        for index in gone:
            _unread(twin, index)


@torch.no_grad()
def _unread(layer: Reader, index: int) -> None:
    """Set to 0 what a layer weighs one of its input channels with."""
    if isinstance(layer, nn.RNNBase):
        for weight in input_weights(layer).values():
            weight[:, index] = 0
        return
    if isinstance(layer, _ConvTransposeNd):  # (inputs, outputs of a group, ...)
        layer.weight[index] = 0
        return
    rows, columns = layer.weight.shape[0] // groups_of(layer), layer.weight.shape[1]
    block = index // columns  # the convolution group that reads this input
    layer.weight[block * rows : (block + 1) * rows, index % columns] = 0
