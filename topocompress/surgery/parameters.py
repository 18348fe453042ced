"""The parameters of a network that has lost channels: still the same ones, and still shared where they were."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import nn

from topocompress.errors import SurgeryError

_HINT = "Keep it whole with --ignore LAYER."


@dataclass(frozen=True)
class Parameters:
    """What is to be known of a network's parameters before channels are removed.

    Attributes:
        required: Every name, those of shared parameters included → whether gradients are required.
        shared: Names that hold one parameter together.
    """

    required: dict[str, bool]
    shared: tuple[tuple[str, ...], ...]


def parameters_of(model: nn.Module) -> Parameters:
    """What :func:`settle` needs to know, of a network that still has all channels."""
    holders: defaultdict[int, list[str]] = defaultdict(list)
    required: dict[str, bool] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        holders[id(parameter)].append(name)
        required[name] = parameter.requires_grad
    return Parameters(required, tuple(tuple(names) for names in holders.values() if len(names) > 1))


def settle(model: nn.Module, before: Parameters) -> None:
    """Share again what was shared, and require gradients of what did; removal makes every parameter anew.

    Args:
        model: The smaller network, changed in place.
        before: What its parameters were like.

    Raises:
        SurgeryError: It has other parameters, as where a weight is computed from others (``weight_norm``), or what
            layers share does not lose the same channels in all of them.
    """
    found = dict(model.named_parameters(remove_duplicate=False))
    if unlike := sorted(found.keys() ^ before.required.keys()):
        raise SurgeryError(f"{unlike[0]} is computed from other parameters, which cannot be pruned", hint=_HINT)
    for first, *others in before.shared:
        kept = found[first]
        for name in others:
            if kept.shape != found[name].shape or not torch.equal(kept, found[name]):
                raise SurgeryError(f"{first} is shared with {name}, which does not lose the same channels", hint=_HINT)
            holder, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(holder), leaf, kept)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(before.required[name])
        parameter.grad = None
