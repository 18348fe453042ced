"""Units of coupled layers: filters that can only go together, and what they have together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from topocompress.network.layers import filters_of

Units = Mapping[str, tuple[tuple[int, ...], ...]]
"""Layer → the filters of each unit of a group of coupled layers, as in :class:`~topocompress.types.ChannelGroup`."""


def known_layers(groups: Sequence[Units], widths: Mapping[str, int]) -> list[Units]:
    """The groups without layers that have no width, and without groups that are empty then."""
    kept = [{layer: units for layer, units in group.items() if layer in widths} for group in groups]
    return [group for group in kept if group]


def effects_of_units(group: Units, slopes: Mapping[str, Tensor], units: int) -> NDArray[np.float64]:
    """(samples, units): the effects of all filters of a unit, added up."""
    total: NDArray[np.float64] | float = 0.0
    for layer, members in group.items():
        if layer not in slopes:
            continue
        unit_of = torch.tensor([unit for unit, channels in enumerate(members) for _ in channels])
        channels = torch.tensor([channel for channels in members for channel in channels])
        found = slopes[layer].cpu().double()[:, channels]
        room = torch.zeros(len(found), units, dtype=torch.float64)
        total = total + room.index_add_(1, unit_of, found).numpy()
    return total if isinstance(total, np.ndarray) else np.zeros((1, units))


def norms_of_units(group: Units, model: nn.Module) -> NDArray[np.float64]:
    """(units,) L1 norm of the weights of a unit's filters, in means of their layers so that each counts alike.

    Args:
        group: Layer → the filters of each unit.
        model: Where the layers are.
    """
    total = np.zeros(len(next(iter(group.values()))))
    for layer, units in group.items():
        module: Any = model.get_submodule(layer)
        norms = filters_of(module).detach().cpu().double().flatten(1).abs().sum(dim=1).numpy()
        if norms.any():
            total += [norms[list(channels)].sum() / norms.mean() for channels in units]
    return total
