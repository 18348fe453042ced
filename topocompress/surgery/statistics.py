"""Groups whose channels go through a statistic over channels: is all that a removal changes that statistic?

LayerNorm, GroupNorm, a global response norm or a mean over channels take what stays into account differently once some
are gone, so the smaller network does not compute what the original computes when nobody reads the removed channels.
How such a thing is written says little: what counts is that it is a mean. A mean over channels does not change when
every channel is there twice. So some units of the original are overwritten with copies of others, each copied as often
as the next, and these copies are removed: if the rest then computes what it did, the channels were followed rightly,
and nothing but a mean over channels depends on how many there are.

A sum over channels, such as a norm of the vector that they are or the product of a query and a key, does not change
when some are 0. So where copies do not do, the weights that make the units to be removed are set to 0 instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from topocompress.dependencies.channel_routes import Disjoint, Reached, routes, unit_choices
from topocompress.dependencies.layouts import multiplies
from topocompress.dependencies.tracing import Part
from topocompress.network.layers import width_of
from topocompress.types import GroupPlan

_SEED = 0
Chosen = tuple[int, list[int], list[int] | None]


@dataclass(frozen=True)
class Copies:
    """Units to overwrite with copies, which are then removed.

    Attributes:
        entry: The removal of the copies.
        chosen: Module or parameter name → (axis, targets, sources): along this axis, the second list of channels is
            to be written over the first, or 0 where there is none. For a module the axis is that of its weight; its
            other tensors have one.
    """

    entry: GroupPlan
    chosen: Mapping[str, Chosen]


def copies(part: Part, root: nn.Module, entry: GroupPlan) -> Copies | None:
    """A part of a group's units that can be overwritten evenly with copies of the rest.

    Args:
        part: The part of the unpruned network in which the group lies.
        root: Its root layer there.
        entry: What is to be removed of the group.

    Returns:
        ``None`` where the removal tears units apart, or no even part of each kind of channel can go.
    """
    joined = Disjoint(width_of(root, out=True))
    members = routes(part.graph, root, joined)
    gone = set(entry.remove)
    fitting = (
        units
        for units in unit_choices(members, joined)
        if all(gone >= set(unit) or not gone & set(unit) for unit in units)
    )
    if (units := next(fitting, None)) is None:
        return None
    kinds = _kinds(members, units)
    fold = _fold([len(kind) for kind in kinds])
    if fold is None:
        return None
    random = np.random.default_rng(_SEED)
    source = np.arange(entry.width)
    for kind in kinds:
        order = [kind[index] for index in random.permutation(len(kind))]
        stay = order[: len(order) // fold]
        for place, unit in enumerate(order[len(stay) :]):
            source[list(units[unit])] = units[stay[place % len(stay)]]
    remove = tuple(int(channel) for channel in np.flatnonzero(source != np.arange(entry.width)))
    chosen = {}
    for member in members:
        name = _name_of(part, member.module)
        if name is not None and member.out:
            chosen[name] = (_axis(part, member.module), *_exchanged(member, source))
    return Copies(replace(entry, remove=remove, dead=(), filters={}, readers={}, coupled=()), chosen)


def silences(part: Part, root: nn.Module, entry: GroupPlan) -> Copies:
    """Zeros in place of all weights that make the units to be removed, where they are added up with others.

    Args:
        part: The part of the unpruned network in which the group lies.
        root: Its root layer there.
        entry: What is to be removed of the group.

    Returns:
        The removal; with nothing to overwrite where no sum, mean or norm over channels is reached.
    """
    gone = set(entry.remove)
    chosen: dict[str, Chosen] = {}
    members = routes(part.graph, root, Disjoint(width_of(root, out=True)))
    if not any(_adds_up(part, member.module) for member in members):
        return Copies(entry, {})
    for member in members:
        name = _name_of(part, member.module)
        if name is not None and member.out:
            targets = [channel for channel, source in member.sources.items() if source in gone]
            chosen[name] = (_axis(part, member.module), targets, None)
    return Copies(entry, chosen)


def either(part: Part, root: nn.Module, entry: GroupPlan) -> Copies | None:
    """:func:`silences` where a group's channels are summed over in a product of matrices, else :func:`copies`."""
    members = routes(part.graph, root, Disjoint(width_of(root, out=True)))
    multiplied = any(_multiplies(part, member.module) for member in members)
    return silences(part, root, entry) if multiplied else copies(part, root, entry)


def _adds_up(part: Part, member: nn.Module | nn.Parameter) -> bool:
    """Whether it is an operation that adds channels up: a statistic, or a product such as of queries and keys."""
    return getattr(member, "couples", False) or _multiplies(part, member)


def _multiplies(part: Part, member: nn.Module | nn.Parameter) -> bool:
    node = part.graph.module2node.get(member)
    return node is not None and multiplies(node.grad_fn)


def overwrite(network: nn.Module, chosen: Mapping[str, Chosen]) -> None:
    """Give channels the weights of others, or none, in place.

    Args:
        network: The network.
        chosen: As in :class:`Copies`.
    """
    loose = dict(network.named_parameters()) | dict(network.named_buffers())
    for name, (axis, targets, sources) in chosen.items():
        if name in loose:
            _write(loose[name], axis, targets, sources)
            continue
        module = network.get_submodule(name)
        for key, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            if key == "weight" and isinstance(module, _ConvTransposeNd):  # all groups alike
                width = tensor.shape[axis]
                others = None if sources is None else [channel % width for channel in sources]
                _write(tensor, axis, [channel % width for channel in targets], others)
            else:
                _write(tensor, axis if key == "weight" else 0, targets, sources)


def _write(tensor: Tensor, axis: int, targets: list[int], sources: list[int] | None) -> None:
    if not targets or tensor.ndim <= axis or tensor.shape[axis] <= max(*targets, *(sources or [0])):
        return
    with torch.no_grad():
        if sources is None:
            if isinstance(tensor, nn.Parameter):  # statistics are divided by
                tensor.index_fill_(axis, torch.tensor(targets, device=tensor.device), 0)
            return
        index = torch.arange(tensor.shape[axis])
        index[targets] = torch.tensor(sources)
        tensor.copy_(tensor.index_select(axis, index.to(tensor.device)))


def _name_of(part: Part, member: nn.Module | nn.Parameter) -> str | None:
    """What a member is called in the network; ``None`` for an operation."""
    names = part.graph._param_to_name if isinstance(member, nn.Parameter) else part.graph._module2name
    own = names.get(member)
    return None if own is None else ".".join(filter(None, (part.name, own)))


def _axis(part: Part, member: nn.Module | nn.Parameter) -> int:
    if isinstance(member, nn.Parameter):
        return int(part.graph.module2node[member].pruning_dim)
    return 1 if isinstance(member, _ConvTransposeNd) else 0


def _kinds(members: Sequence[Reached], units: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Units that everything in the group treats alike: those of one half of a split are one kind."""
    reach: dict[int, list[tuple[int, int]]] = {}
    for number, member in enumerate(members):
        counts: dict[int, int] = {}
        for source in member.sources.values():
            counts[source] = counts.get(source, 0) + 1
        for source, count in counts.items():
            reach.setdefault(source, []).append((number, count))
    kinds: dict[tuple[tuple[tuple[int, int], ...], ...], list[int]] = {}
    for number, unit in enumerate(units):
        kinds.setdefault(tuple(tuple(reach.get(channel, ())) for channel in unit), []).append(number)
    return list(kinds.values())


def _fold(sizes: Sequence[int]) -> int | None:
    """The smallest number above 1 that divides all sizes."""
    common = int(np.gcd.reduce(sizes))
    return next((number for number in range(2, common + 1) if common % number == 0), None)


def _exchanged(member: Reached, source: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Channels of a member that are to be others, and these, when the root's channels are to be ``source``."""
    places: dict[int, list[int]] = {}
    for channel in sorted(member.sources):
        places.setdefault(member.sources[channel], []).append(channel)
    pairs = [
        (channel, taken)
        for origin, channels in places.items()
        if source[origin] != origin
        for channel, taken in zip(channels, places.get(int(source[origin]), ()), strict=False)
    ]
    return [channel for channel, _ in pairs], [taken for _, taken in pairs]
