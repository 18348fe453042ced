"""Layers whose output channels are filters: linear layers, and convolutions of any kind."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

FilterLayer = nn.Linear | _ConvNd

LAYERS = (nn.Linear, _ConvNd)
"""Modules whose output channels are filters."""
CONVOLUTIONS = _ConvNd
"""Of these the ones whose channels lie on axis 1."""
RECURRENT = nn.RNNBase
"""Layers that read channels, and whose own units stay."""
_STAYS_GROUPED = "_topocompress_stays_grouped"


def width_of(module: nn.Module | nn.Parameter, *, out: bool) -> int:
    """Output or input channels of a layer, a recurrent one included; 0 for anything else."""
    if isinstance(module, nn.Linear):
        return module.out_features if out else module.in_features
    if isinstance(module, _ConvNd):
        return module.out_channels if out else module.in_channels
    if isinstance(module, nn.RNNBase):
        each = module.proj_size or module.hidden_size
        return each * (2 if module.bidirectional else 1) if out else module.input_size
    return 0


def input_weights(layer: nn.RNNBase) -> dict[str, nn.Parameter]:
    """Name → (gates, inputs): the weights by which the first of a recurrent layer's layers reads its input."""
    return {name: weight for name, weight in layer.named_parameters() if name.startswith("weight_ih_l0")}


def groups_of(layer: FilterLayer) -> int:
    """Groups of a convolution; 1 for a linear layer."""
    return 1 if isinstance(layer, nn.Linear) else layer.groups


def separates(module: nn.Module | nn.Parameter) -> bool:
    """Whether a convolution has groups of a single input or output: depthwise, with a multiplier or without."""
    if not isinstance(module, _ConvNd) or module.groups == 1 or getattr(module, _STAYS_GROUPED, False):
        return False
    return module.groups in (module.in_channels, module.out_channels)


def stay_grouped(model: nn.Module, apart: Collection[str]) -> None:
    """Note of convolutions whose groups have come down to one channel that they are grouped ones.

    What is cut in several rounds is so cut by the same groups of channels in each.

    Args:
        model: A network that has lost channels.
        apart: Names of the convolutions whose groups had one channel before.
    """
    for name, module in model.named_modules():
        if name not in apart and separates(module):
            setattr(module, _STAYS_GROUPED, True)


def filters_of(layer: FilterLayer) -> Tensor:
    """(outputs, inputs of a group, ...): the weights, filter by filter however they lie."""
    weight: Tensor = layer.weight
    if not isinstance(layer, _ConvTransposeNd):
        return weight
    parts = weight.reshape(layer.groups, -1, *weight.shape[1:])  # (groups, inputs of a group, outputs of a group, ...)
    filters: Tensor = parts.transpose(1, 2).flatten(0, 1)
    return filters
