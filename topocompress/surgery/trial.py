"""Channel groups tried out before anything is scored; one that does not come off as predicted is kept whole.

The dependency graph follows channels through most operations, and misreads some that rearrange them: padding them with
zeros, shuffling them, picking some by hand. So a part of every group is removed from a copy, all at once, and surgery's
own verification judges. Only where that fails are the groups tried fewer at a time.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from topocompress.dependencies.groups import find_groups
from topocompress.dependencies.lost import lost_places
from topocompress.network.detectors import followed
from topocompress.network.inference import all_outputs, evaluating, run_forward
from topocompress.network.inputs import made_up
from topocompress.surgery.checking import Yardstick, lively
from topocompress.surgery.removal import STOPS, refusal
from topocompress.types import ChannelGroup, GroupPlan, PruningPlan
from topocompress.types.reasons import ON_TRIAL, Kind, Reason

SECONDS = 300.0
"""Time after which what could not be removed together with all else is kept whole."""

FEW = 4
"""Groups of one width among which a single one that does not belong to the others is looked for."""

_SHARE = 0.25
_SEED = 0
_STRENGTHS = (1.0, 0.1, 0.01)
_NUDGE, _STEADY = 1e-6, 1e-4
"""Relative noise on an input, and how far it may move the outputs, relative to the largest, to compare others there."""


def prunable_groups(
    model: nn.Module, example: Tensor, *, ignore: Sequence[str] = (), linear: bool = False
) -> tuple[ChannelGroup, ...]:
    """All channel groups of a model; those that must stay whole, or turn out to, marked with the reason.

    Args:
        model: The network; left as it was.
        example: (1, C, H, W) input on the model's device.
        ignore: Shell-style patterns of module names; a group with a matching layer stays whole.
        linear: Whether linear layers that see a vector per sample may be pruned too.

    Raises:
        ModelError: The model cannot be traced.
        PlanError: A pattern matches no layer.
    """
    groups = find_groups(model, example, ignore=ignore, linear=linear)
    if not all(output.isfinite().all() for output in _outputs(model, example)):
        return groups  # scoring says where NaN comes from
    return tried(model, groups, _steady(model, example), example)


def tried(model: nn.Module, groups: Sequence[ChannelGroup], *inputs: Tensor) -> tuple[ChannelGroup, ...]:
    """The same groups, each that fails its trial protected. Takes about as long as applying a plan if none does.

    Args:
        model: The network; left as it was.
        groups: Its groups, as :func:`topocompress.dependencies.groups.find_groups` finds them.
        inputs: (1, C, H, W) what outputs are compared on, the steadiest first.
    """
    random = np.random.default_rng(_SEED)
    before: Counter[int] = Counter()
    trials = []
    for group in groups:
        if not group.protected and len(group.units) > 1:
            trials.append((group, _some(group, random, before[len(group.units)])))
            before[len(group.units)] += 1
    kept = _misread(lively(model), [entry for _, entry in trials], *inputs)
    failed = [group for group, _ in trials if group.root in kept and kept[group.root].kind is not Kind.UNTRIED]
    sound = [entry for _, entry in trials if entry.root not in kept]
    joined = {group.root: group for group in _joined(lively(model), failed, sound, random, *inputs)}
    inside = {root for group in joined.values() for root in group.also}
    kept = {root: why for root, why in kept.items() if root not in joined}
    if lost := [group.root for group in failed if group.root in kept and group.root not in inside]:
        kept |= lost_places(model, inputs[0], lost)
    outer = (joined.get(group.root, group) for group in groups if group.root not in inside)
    return tuple(replace(group, protected=kept.get(group.root, group.protected)) for group in outer)


def _joined(
    model: nn.Module,
    failed: Sequence[ChannelGroup],
    sound: Sequence[GroupPlan],
    random: np.random.Generator,
    *inputs: Tensor,
) -> list[ChannelGroup]:
    """Groups of one width that cannot lose channels alone, put together where they can lose the same ones.

    So it is where a network takes a size of one tensor to lay out another.

    Args:
        model: The network; left as it was.
        failed: Groups that failed their trial.
        sound: The trials of those that did not.
        random: Chooses what is tried.
        inputs: As in :func:`tried`.
    """
    alike: dict[tuple[str, int, tuple[tuple[int, ...], ...]], list[ChannelGroup]] = {}
    for group in failed:
        alike.setdefault((group.part, group.width, group.units), []).append(group)
    several = [groups for groups in alike.values() if len(groups) > 1]
    if not several:
        return []
    yardstick, started = Yardstick(model, *inputs), time.monotonic()

    def works(*entries: GroupPlan) -> bool:
        late = time.monotonic() - started > SECONDS
        return not (late or refusal(model, _trial(entries), yardstick))

    joined: list[ChannelGroup] = []
    for groups in several:
        fewer = [[other for other in groups if other is not group] for group in groups]
        choices = map(_together, (groups, *(fewer if 2 < len(groups) <= FEW else ())))
        joined += itertools.islice((one for one in choices if works(_some(one, random))), 1)
    trials = [_some(group, random, number) for number, group in enumerate(joined)]
    return joined if joined and works(*sound, *trials) else []


def _together(groups: Sequence[ChannelGroup]) -> ChannelGroup:
    """Groups of the same units as one."""
    first = groups[0]
    readers: dict[str, tuple[int, ...]] = {}
    for group in groups:
        for name, counts in group.readers.items():
            readers[name] = tuple(map(sum, zip(counts, readers.get(name, [0] * len(counts)), strict=True)))
    products = [group.products for group in groups if group.products]
    return replace(
        first,
        filters={name: units for group in groups for name, units in group.filters.items()},
        readers=readers,
        coupled=tuple(dict.fromkeys(name for group in groups for name in group.coupled)),
        products=tuple(map(sum, zip(*products, strict=True))),
        also=tuple(group.root for group in groups[1:]),
    )


def _steady(model: nn.Module, example: Tensor) -> Tensor:
    """An input to compare outputs on: noise, unless the network magnifies rounding errors of it beyond comparing.

    A deep network may do that where an input is far from all it was trained on. Then weaker noise is taken, then the
    example itself; if they are all magnified, the one that is least.
    """
    generator = torch.Generator().manual_seed(_SEED)
    noise, nudge = (torch.randn(example.shape, generator=generator).to(example) for _ in range(2))
    moved: list[tuple[float, Tensor]] = []
    for inputs in (*(made_up(model, strength * noise, example) for strength in _STRENGTHS), example):
        moved.append((_distance(_outputs(model, inputs), _outputs(model, inputs * (1 + _NUDGE * nudge))), inputs))
        if moved[-1][0] <= _STEADY:
            return inputs
    return min(moved, key=lambda each: each[0])[1]


def _outputs(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    with evaluating(model):
        return [each for each in all_outputs(run_forward(followed(model), inputs)) if each.is_floating_point()]


def _distance(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """Largest difference, relative to the largest number of the same output; infinity where it cannot be said."""
    worst = 0.0
    for one, other in zip(first, second, strict=True):
        if one.shape != other.shape or not bool(one.isfinite().all() and other.isfinite().all()):
            return math.inf
        if one.numel():
            worst = max(worst, float((one - other).abs().max() / one.abs().max().clamp_min(1e-6)))
    return worst


def _some(group: ChannelGroup, random: np.random.Generator, more: int = 0) -> GroupPlan:
    """A trial: a quarter of the units, and ``more``, at least one and at most half.

    Groups of one width lose different numbers, or nobody would see that two must go on having the same.
    """
    count = 1 + (max(1, int(_SHARE * len(group.units))) - 1 + more) % max(1, len(group.units) // 2)
    units = random.permutation(len(group.units))[:count]
    remove = sorted(channel for unit in units for channel in group.units[unit])
    return GroupPlan(root=group.root, width=group.width, part=group.part, remove=tuple(remove), also=group.also)


def _trial(groups: Sequence[GroupPlan]) -> PruningPlan:
    return PruningPlan(model="", rule={}, criterion="trial", groups=tuple(groups), macs_before=0, macs_after=0)


def _misread(model: nn.Module, entries: Sequence[GroupPlan], *inputs: Tensor) -> dict[str, Reason]:
    """Roots of the groups that cannot be removed together with those before them that can, each with the reason."""
    started = time.monotonic()
    sound: list[GroupPlan] = []
    bad: dict[str, Reason] = {}
    if not entries:
        return bad
    yardstick = Yardstick(model, *inputs)

    def search(part: Sequence[GroupPlan], why: str = "") -> bool:
        """Whether all of a part can go too; ``why`` it cannot, where that is known of just this plan."""
        if bad and not why and time.monotonic() - started > SECONDS:
            bad.update({entry.root: Reason(Kind.UNTRIED) for entry in part})
            return False
        why = why or refusal(model, _trial((*sound, *part)), yardstick)
        if not why:
            sound.extend(part)
        elif len(part) == 1:
            bad[part[0].root] = _written(why)
        else:
            middle = len(part) // 2
            search(part[middle:], why if search(part[:middle]) else "")
        return not why

    search(entries)
    return bad


def _written(why: str) -> Reason:
    """The reason why a group stays whose trial failed."""
    if not why.startswith(STOPS):
        return Reason(Kind.CHANGED)
    where = why.removeprefix(STOPS).strip().partition(": ")[0]
    if not where:  # as it is trained, or on other images
        return Reason(Kind.CHANGED)
    if hasattr(nn, where.rpartition("(")[2].rstrip(")")):  # torch's own knows its width; what comes in has another
        return Reason(Kind.MISFED, where)
    return Reason(Kind.WRITTEN, where)


def found_on_trial(reason: str) -> bool:
    """Whether a group stays for what its trial showed."""
    return isinstance(reason, Reason) and reason.kind in ON_TRIAL
