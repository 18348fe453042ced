"""Channel groups tried out before anything is scored; one that does not come off as predicted is kept whole.

The dependency graph follows channels through most operations, and misreads some that rearrange them: padding them with
zeros, shuffling them, picking some by hand. So a part of every group is removed from a copy, all at once, and surgery's
own verification judges. Only where that fails are the groups tried fewer at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from topocompress.detectors import followed
from topocompress.groups import explicit, find_groups
from topocompress.inference import all_outputs, evaluating, run_forward
from topocompress.surgery import NORMS_OVER_CHANNELS, fails
from topocompress.types import ChannelGroup, GroupPlan, PruningPlan

UNFOLLOWED = (
    "its channels are wired in a way that cannot be followed, such as padding or shuffling: removing some on trial "
    "changed what the others compute"
)
_SHARE = 0.25
_SEED = 0


def prunable_groups(
    model: nn.Module, example: Tensor, *, ignore: Sequence[str] = (), linear: bool = False
) -> tuple[ChannelGroup, ...]:
    """All channel groups of a model; those that must stay whole, or turn out to, marked with the reason.

    Args:
        model: The network; left as it was.
        example: (1, C, H, W) input on the model's device.
        ignore: Shell-style patterns of module names; a group with a matching layer stays whole.
        linear: Whether groups of linear layers alone may be pruned.

    Raises:
        ModelError: The model cannot be traced.
        PlanError: A pattern matches no layer.
    """
    groups = find_groups(model, example, ignore=ignore, linear=linear)
    with evaluating(model):
        finite = all(output.isfinite().all() for output in all_outputs(run_forward(followed(model), example)))
    return tried(model, groups, example) if finite else groups  # scoring says where NaN comes from


def tried(model: nn.Module, groups: Sequence[ChannelGroup], example: Tensor) -> tuple[ChannelGroup, ...]:
    """The same groups, each that fails its trial protected. Takes about as long as applying a plan if none does.

    Args:
        model: The network; left as it was.
        groups: Its groups, as :func:`topocompress.groups.find_groups` finds them.
        example: (1, C, H, W) input; noise of its shape is what outputs are compared on.
    """
    random = np.random.default_rng(_SEED)
    trials = [(group, _some(group, random)) for group in groups if not group.protected and len(group.units) > 1]
    noise = torch.randn(example.shape, generator=torch.Generator().manual_seed(_SEED)).to(example)
    modules = dict(explicit(model).named_modules())

    def over_channels(group: ChannelGroup) -> bool:
        return any(isinstance(modules.get(name), NORMS_OVER_CHANNELS) for name in group.coupled)

    # A norm over channels keeps the outputs of all that is removed with it from being compared, so these go apart.
    bad = _misread(model, [entry for group, entry in trials if not over_channels(group)], noise)
    bad |= _misread(model, [entry for group, entry in trials if over_channels(group)], noise)
    return tuple(replace(group, protected=UNFOLLOWED) if group.root in bad else group for group in groups)


def _some(group: ChannelGroup, random: np.random.Generator) -> GroupPlan:
    """A trial: a quarter of the units, at least one."""
    count = max(1, int(_SHARE * len(group.units)))
    units = random.permutation(len(group.units))[:count]
    remove = sorted(channel for unit in units for channel in group.units[unit])
    return GroupPlan(root=group.root, width=group.width, part=group.part, remove=tuple(remove))


def _misread(model: nn.Module, entries: Sequence[GroupPlan], example: Tensor) -> set[str]:
    """Roots of the groups that cannot be removed together with those before them that can."""
    sound: list[GroupPlan] = []
    bad: set[str] = set()
    waiting = [list(entries)] if entries else []
    while waiting:
        part = waiting.pop()
        plan = PruningPlan(model="", rule={}, criterion="trial", groups=(*sound, *part), macs_before=0, macs_after=0)
        if not fails(model, plan, example):
            sound += part
        elif len(part) == 1:
            bad.add(part[0].root)
        else:
            middle = len(part) // 2
            waiting += [part[middle:], part[:middle]]
    return bad
