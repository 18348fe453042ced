"""Channels that can only be removed together, read off torch-pruning's dependency graph.

Fang, Ma, Song, Mi & Wang, "DepGraph: Towards Any Structural Pruning", CVPR 2023, arXiv:2301.12900.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from torch import Tensor, nn

from topocompress.dependencies.attention import has_implicit, make_explicit
from topocompress.dependencies.calls import Explored, explore
from topocompress.dependencies.channel_routes import Disjoint, Reached, routes, unit_choices
from topocompress.dependencies.heads import HeadAttention, attention_heads
from topocompress.dependencies.loose import buffers_traced
from topocompress.dependencies.products import product_macs
from topocompress.dependencies.reasons import lost
from topocompress.dependencies.tracing import PATIENCE, Part, follow
from topocompress.errors import PlanError
from topocompress.network.baking import bake, baked
from topocompress.network.copying import copied
from topocompress.network.detectors import REGIONS, followed
from topocompress.network.inference import written_buffers
from topocompress.network.layers import CONVOLUTIONS, LAYERS, RECURRENT, separates, width_of
from topocompress.types import ChannelGroup
from topocompress.types.reasons import Kind, Reason


def find_groups(
    model: nn.Module,
    example: Tensor,
    *,
    ignore: Sequence[str] = (),
    linear: bool = False,
    seconds: float = PATIENCE,
) -> tuple[ChannelGroup, ...]:
    """All channel groups of a model, those that must stay whole marked with the reason.

    Args:
        model: The network; left as it was.
        example: (1, C, H, W) input on the model's device.
        ignore: Shell-style patterns of module names; a group with a matching layer stays whole.
        linear: Whether linear layers that see a vector per sample, as in a classifier's head, may be pruned. Where
            nothing else can be, they are anyway. Those that work at every place of a map, or on tokens, always may.
        seconds: How long following the network, or a part of it, may take before its parts are followed instead.

    Returns:
        One group per root layer, in the order of the model's modules.

    Raises:
        ModelError: The model cannot be traced.
        PlanError: A pattern matches no layer.
    """
    twin = copied(model)
    bake(twin)
    make_explicit(twin)
    twin = followed(twin)
    names: dict[object, str] = {module: name for name, module in twin.named_modules()}
    patterns = list(ignore)
    if unmatched := [p for p in patterns if not any(fnmatchcase(name, p) for name in names.values())]:
        raise PlanError(
            f"--ignore {unmatched[0]!r} matches no layer", hint=f"Layers are named like {_some(names.values())}."
        )
    explored = explore(twin, example)
    with buffers_traced(twin, written_buffers(twin, example)):
        groups = follow(
            twin,
            explored,
            lambda part: _groups_of(part, names, patterns, explored, linear=linear),
            whole=_without_attention,
            seconds=seconds,
        )
    heads = [_heads(name, layer, patterns) for name, layer in attention_heads(twin).items()]
    # What else lies inside an attention layer changes with its heads, and is no group of its own.
    owned = {
        name
        for name in names.values()
        for head in heads
        if name.startswith(f"{head.part}.") and name != f"{head.part}.proj"
    }
    groups = [*(group for group in groups if group.root not in owned), *heads]
    seen = {name for group in groups for name in group.coupled}
    alone = {
        name: _alone(name, width_of(module, out=True), Reason(Kind.ENTERS if separates(module) else Kind.UNSEEN))
        for module, name in names.items()
        if isinstance(module, LAYERS) and name not in seen | owned
    }
    alone |= {
        name: _alone(name, width_of(module, out=True), Reason(Kind.RECURRENT))
        for module, name in names.items()
        if isinstance(module, RECURRENT)
    }
    if all(group.protected for group in groups):  # a network of linear layers alone
        groups = [replace(group, protected="") if group.protected == Reason(Kind.LINEAR) else group for group in groups]
    uncalled = {name: twin.get_submodule(name) for name in sorted(explored.never)}
    groups = [_kept_for(uncalled, group) for group in groups]
    by_root = {group.root: group for group in groups} | alone
    return tuple(by_root[name] for name in names.values() if name in by_root)


def explicit(model: nn.Module) -> nn.Module:
    """The model of plain weights, with attention layers whose heads can be scored: a copy only where it is another."""
    if not has_implicit(model):
        return baked(model)
    twin = copied(model)
    bake(twin)
    make_explicit(twin)
    return twin


def _alone(name: str, width: int, why: str, *, part: str = "", coupled: Sequence[str] = ()) -> ChannelGroup:
    """A layer that stays whole, and of which no more is said."""
    channels = tuple((channel,) for channel in range(width))
    return ChannelGroup(
        root=name,
        part=part,
        width=width,
        units=channels,
        filters={name: channels},
        readers={},
        coupled=tuple(dict.fromkeys((name, *coupled))),
        protected=why,
    )


def _kept_for(uncalled: Mapping[str, nn.Module], group: ChannelGroup) -> ChannelGroup:
    """The group, protected if a layer that nobody has seen called may read it, going by widths."""
    if group.protected:
        return group
    widths = {sum(map(len, units)) for units in group.filters.values()}
    for name, layer in uncalled.items():
        inputs = width_of(layer, out=False)
        flattened = isinstance(layer, nn.Linear)  # it may read maps end to end, (channels · h · w)
        if any(inputs == width or (flattened and inputs % width == 0) for width in widths):
            return replace(group, protected=Reason(Kind.NEVER, name))
    return group


def _without_attention(module: nn.Module) -> bool:
    """Whether a module may be followed as a whole: what torch's own attention reads is called by nobody."""
    return not any(isinstance(each, nn.MultiheadAttention) for each in module.modules())


def _heads(name: str, layer: HeadAttention, ignore: Sequence[str]) -> ChannelGroup:
    """The heads of an attention layer; each is a unit. They live inside it, so nothing else is coupled to them."""
    channels = [layer.head_channels(head) for head in range(layer.num_heads)]
    rows = tuple(each.rows for each in channels)
    members = (f"{name}.qkv", name, f"{name}.proj")
    ignored = [each for each in members if any(fnmatchcase(each, pattern) for pattern in ignore)]
    return ChannelGroup(
        root=f"{name}.qkv",
        part=name,
        width=layer.qkv.out_features,
        units=rows,
        filters={f"{name}.qkv": rows, name: tuple((head,) for head in range(layer.num_heads))},
        readers={f"{name}.proj": tuple(len(each.columns) for each in channels)},
        coupled=members,
        protected=Reason(Kind.IGNORED, ignored[0]) if ignored else "",
    )


def _groups_of(
    part: Part, names: Mapping[object, str], ignore: Sequence[str], explored: Explored, *, linear: bool
) -> list[ChannelGroup]:
    graph = part.graph
    groups: list[ChannelGroup] = []
    covered: set[object] = set()
    for root in [module for module in names if isinstance(module, LAYERS) and module in graph.module2node]:
        if root in covered or separates(root):  # a depthwise layer is in its producer's group
            continue
        joined = Disjoint(width_of(root, out=True))
        members = routes(graph, root, joined)
        covered |= {member.module for member in members if member.out}
        groups.append(_describe(members, joined, part, names, ignore, explored, linear=linear))
    return groups


def _describe(
    members: Sequence[Reached],
    joined: Disjoint,
    part: Part,
    names: Mapping[object, str],
    ignore: Sequence[str],
    explored: Explored,
    *,
    linear: bool,
) -> ChannelGroup:
    root = names[members[0].module]
    width = width_of(members[0].module, out=True)
    filters: dict[str, list[list[int]]] = {}
    readers: dict[str, list[int]] = {}
    coupled: list[str] = []
    reasons: list[Reason] = []
    for member in members:
        name = names.get(member.module)
        reasons += _protections(member, name, part.name, ignore, part.graph.placed)
        if name is None:
            continue
        coupled.append(name)
        if name in explored.chancy:
            reasons.append(Reason(Kind.CHANCY, name))
        if isinstance(member.module, LAYERS) and member.out:
            channels = filters.setdefault(name, [[] for _ in range(width)])
            for channel, source in member.sources.items():
                channels[source].append(channel)
        elif isinstance(member.module, (*LAYERS, RECURRENT)) and not separates(member.module):
            counts = readers.setdefault(name, [0] * width)
            for source in member.sources.values():
                counts[source] += 1
    exact = {Kind.LOST: lost(part, members)} if any(reason.kind is Kind.LOST for reason in reasons) else {}
    if readers:
        exact[Kind.OUTPUT] = Reason(Kind.ALSO_OUTPUT, next(iter(readers)))
    if any(member.out and member.module in part.unread for member in members):
        exact |= dict.fromkeys((Kind.OUTPUT, Kind.LEAVES), Reason(Kind.UNREAD))
    reasons = [exact.get(reason.kind, reason) for reason in reasons]
    convolutions = (isinstance(part.graph.model.get_submodule(part.own_name(name)), CONVOLUTIONS) for name in filters)
    if not linear and not any(convolutions) and not part.everywhere.issuperset(filters):
        reasons.append(Reason(Kind.LINEAR))
    if any(channels != [source] for source, channels in enumerate(filters[root])):
        return _alone(root, width, reasons[0] if reasons else lost(part, members), part=part.name, coupled=coupled)
    units = unit_choices(members, joined)[0]
    return ChannelGroup(
        root=root,
        part=part.name,
        width=width,
        units=units,
        filters={
            name: tuple(tuple(sorted(c for source in unit for c in channels[source])) for unit in units)
            for name, channels in filters.items()
        },
        readers={
            name: tuple(sum(counts[source] for source in unit) for unit in units) for name, counts in readers.items()
        },
        coupled=tuple(dict.fromkeys(coupled)),
        protected=reasons[0] if reasons else "",
        products=product_macs(part, members, units),
    )


def _protections(
    member: Reached, name: str | None, part: str, ignore: Sequence[str], known: Collection[object]
) -> list[Reason]:
    """Why this member of a group keeps the whole group from being pruned; empty if it does not."""
    module = member.module
    reasons: list[Reason] = []
    if member.out and member.final:
        reasons.append(Reason(Kind.LEAVES if part else Kind.OUTPUT))
    if isinstance(module, nn.MultiheadAttention):
        reasons.append(Reason(Kind.ATTENTION))
    if isinstance(module, nn.Parameter) and sum(size > 1 for size in module.shape) > 1 and module not in known:
        reasons.append(Reason(Kind.PARAMETER))
    if member.wrong:
        reasons.append(Reason(Kind.LOST))
    if member.out and name:  # layers that merely read may lose inputs
        if any(fnmatchcase(name, pattern) for pattern in ignore):
            reasons.append(Reason(Kind.IGNORED, name))
        if name.startswith(REGIONS):
            reasons.append(Reason(Kind.REGIONS))
    return reasons


def _some(names: Iterable[str], count: int = 4) -> str:
    return ", ".join([name for name in names if name][:count])
