"""Which channels of layers stay under a plan, found out by pruning a network whose weights are numbers of channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from topocompress.network.batchnorm import named_statistics
from topocompress.network.copying import copied
from topocompress.surgery.removal import replay
from topocompress.types import PruningPlan


def kept_channels(model: nn.Module, plan: PruningPlan, *, example: Tensor) -> dict[str, Tensor]:
    """BatchNorm → (channels,) which of its channels stay when a plan is applied to the model, which is not changed."""
    numbered = copied(model)
    with torch.no_grad():
        for norm in named_statistics(numbered).values():
            norm.register_buffer("running_mean", torch.arange(float(norm.num_features)).to(norm.running_var))
    smaller = replay(numbered, plan, example=example)
    norms = named_statistics(smaller).items()
    return {name: norm.running_mean.round().long() for name, norm in norms if norm.running_mean is not None}


def kept_outputs(model: nn.Module, plan: PruningPlan, *, example: Tensor) -> dict[str, Tensor]:
    """Convolution or linear layer → (outputs,) which of its outputs stay under a plan; the model is not changed."""
    numbered = copied(model)
    names: list[str] = []
    for name, module in numbered.named_modules():
        if isinstance(module, nn.Linear | _ConvNd) and isinstance(module.weight, nn.Parameter):
            weight, numbers = module.weight, torch.arange(len(module.weight))[:, None]
            if isinstance(module, _ConvTransposeNd):  # (inputs, outputs of a group, ...)
                block = numbers // (len(weight) // module.groups)
                numbers = block * weight.shape[1] + torch.arange(weight.shape[1])
            shape = (*numbers.shape, *[1] * (weight.ndim - 2))
            weight.data = numbers.to(weight).view(shape).expand_as(weight).contiguous()
            names.append(name)
    smaller: dict[str, Any] = dict(replay(numbered, plan, example=example).named_modules())
    return {name: _numbers(smaller[name]) for name in names if name in smaller}


def _numbers(layer: Any) -> Tensor:
    """(outputs,) the numbers that were put in place of the weights."""
    weight: Tensor = layer.weight.detach()
    first = weight.flatten(2)[..., 0] if weight.ndim > 2 else weight
    if isinstance(layer, _ConvTransposeNd):
        return first[:: max(1, len(first) // layer.groups)].flatten().round().long()
    return first[:, 0].round().long()
