"""An oracle for removal: channels that are 0 throughout may go, and nothing else may change."""

import copy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from topocompress.types import GroupPlan, PruningPlan


def some(groups, share=0.5):
    """A plan that removes a share of the units of every group that may lose some, at least one, the last ones first."""
    entries = []
    for group in groups:
        gone = [] if group.protected or len(group.units) < 2 else group.units[-max(1, int(share * len(group.units))) :]
        remove = tuple(sorted(channel for unit in gone for channel in unit))
        entries.append(GroupPlan(root=group.root, width=group.width, part=group.part, remove=remove))
    return PruningPlan(model="", rule={}, criterion="hand", groups=tuple(entries), macs_before=0, macs_after=0)


@torch.no_grad()
def silenced(model, groups, plan):
    """The network with filters of 0 in place of those that go, and with norms that leave them so.

    Norms are taken for those of a layer whose channels they have one by one; then the network must only have
    activations that leave a 0 a 0.
    """
    quiet = copy.deepcopy(model)
    for group, entry in zip(groups, plan.groups, strict=True):
        if not entry.remove:
            continue
        gone = {unit for unit, channels in enumerate(group.units) if set(channels) & set(entry.remove)}
        for name, units in group.filters.items():
            layer = quiet.get_submodule(name)
            rows = [channel for unit in gone for channel in units[unit]]
            weight = layer.weight
            if isinstance(layer, nn.modules.conv._ConvTransposeNd):
                several = weight.shape[1]
                for row in rows:
                    block = weight.shape[0] // layer.groups
                    start = row // several * block
                    weight[start : start + block, row % several] = 0
            else:
                weight[rows] = 0
            if layer.bias is not None:
                layer.bias[rows] = 0
        for name in group.coupled:
            norm = quiet.get_submodule(name)
            if isinstance(norm, _BatchNorm) and norm.num_features == group.width:
                norm.weight[list(entry.remove)] = 0
                norm.bias[list(entry.remove)] = 0
    return quiet
