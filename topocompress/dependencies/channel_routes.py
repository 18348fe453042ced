"""Where the channels of a layer go in a dependency graph, and which of them only go together.

torch-pruning follows a set of channels along every route through the graph, as often as there are routes, and where two
of them end in one channel it keeps the first. Here every channel of every layer is reached once: whoever comes to it
later is joined with whoever was first. So a layer of which one half is added to the other is understood, and the walk
ends, whatever the wiring.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch_pruning as tp
from torch import nn
from torch_pruning._helpers import _HybridIndex
from torch_pruning.dependency import Node
from torch_pruning.dependency.index_mapping import update_index_mapping

from topocompress.network.layers import CONVOLUTIONS, groups_of, separates, width_of

_Handler = Callable[..., Any]


class Disjoint:
    """Disjoint sets over 0..n-1."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def _find(self, element: int) -> int:
        while self._parent[element] != element:
            self._parent[element] = self._parent[self._parent[element]]
            element = self._parent[element]
        return element

    def join(self, first: int, second: int) -> None:
        """Make one set of those of two elements."""
        low, high = sorted((self._find(first), self._find(second)))
        self._parent[high] = low

    def sets(self) -> tuple[tuple[int, ...], ...]:
        """The sets, each sorted, in the order of their smallest elements."""
        members: dict[int, list[int]] = {}
        for element in range(len(self._parent)):
            members.setdefault(self._find(element), []).append(element)
        return tuple(tuple(found) for found in members.values())


@dataclass(frozen=True, kw_only=True)
class Reached:
    """One way in which something in the graph depends on the root.

    Attributes:
        module: A layer, norm or parameter, or torch-pruning's stand-in for an operation.
        out: Whether its output channels are reached, or its input channels.
        final: Whether what it computes is given back, or nothing reads it.
        sources: Channel of it → the root's channel that came to it first.
        wrong: Whether channels are reached that it does not have: the graph is wrong about the wiring.
    """

    module: nn.Module | nn.Parameter
    out: bool
    final: bool
    sources: Mapping[int, int]
    wrong: bool


def routes(graph: tp.DependencyGraph, root: nn.Module, joined: Disjoint) -> list[Reached]:
    """Everything that the output channels of a layer reach, itself first.

    Args:
        graph: The dependency graph.
        root: A layer in it; not a depthwise one.
        joined: Sets of the root's channels; those that reach one channel of something are joined.

    Returns:
        What is reached.
    """
    update_index_mapping(graph)
    # How many channels an operation has is not known, but never more than all layers together.
    most = sum(width_of(module, out=False) + width_of(module, out=True) for module in graph.module2node)
    start = (graph.module2node[root], graph.get_pruner_of_module(root).prune_out_channels)
    found: dict[tuple[Node, _Handler], dict[int, int]] = {start: {}}
    itself = [_HybridIndex(channel, channel) for channel in range(width_of(root, out=True))]
    waiting: list[tuple[tuple[Node, _Handler], Iterable[_HybridIndex]]] = [(start, itself)]

    def width(node: Node, handler: _Handler) -> int:
        return width_of(node.module, out=graph.is_out_channel_pruning_fn(handler)) or most

    while waiting:
        (node, handler), arriving = waiting.pop()
        sources = found[node, handler]
        own = width(node, handler)
        new = []
        for each in arriving:
            if each.idx in sources:
                joined.join(sources[each.idx], each.root_idx)
                continue
            sources[each.idx] = each.root_idx
            if 0 <= each.idx < own:
                new.append(each)
        for dep in node.dependencies if new else ():
            if not dep.is_triggered_by(handler):
                continue
            onward = new
            for mapping in dep.index_mapping:
                onward = onward if mapping is None else mapping(onward)
            if onward:
                found.setdefault((dep.target, dep.handler), {})
                waiting.append(((dep.target, dep.handler), onward))
    return [
        Reached(
            module=node.module,
            out=graph.is_out_channel_pruning_fn(handler),
            final=not node.outputs or (node.grad_fn in graph.outputs and not getattr(node.module, "couples", False)),
            sources=sources,
            wrong=not 0 <= min(sources) <= max(sources) < width(node, handler),
        )
        for (node, handler), sources in found.items()
    ]


def unit_choices(members: Iterable[Reached], joined: Disjoint) -> list[tuple[tuple[int, ...], ...]]:
    """The ways to take the root's channels together so that groups of channels stay of one size; most units first.

    Every group of a convolution loses as many channels as the next, at the same places. A GroupNorm may do so too, or
    lose groups as wholes, which changes nothing of the others' statistics: of as many units these come first.

    Args:
        members: What the root's channels reach.
        joined: Sets of the root's channels that only go together as it is; left as it was.
    """
    reached = tuple(members)
    choices = []
    for whole in (True, False):
        tried = copy.deepcopy(joined)
        for member in reached:
            _join_groups(member, tried, whole=whole)
        choices.append(tried.sets())
    return sorted(choices, key=len, reverse=True)


def _join_groups(member: Reached, joined: Disjoint, *, whole: bool) -> None:
    module = member.module
    if isinstance(module, CONVOLUTIONS) and module.groups > 1 and not separates(module):
        size, whole = width_of(module, out=member.out) // groups_of(module), False
    elif isinstance(module, nn.GroupNorm):
        size = module.num_channels // module.num_groups
    else:
        return
    together: dict[int, int] = {}
    for channel, source in member.sources.items():
        joined.join(together.setdefault(channel // size if whole else channel % size, source), source)
