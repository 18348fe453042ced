"""Operations that put channels together, take them apart or multiply them, as a dependency graph needs to know them.

torch-pruning tells the sizes of what is concatenated or split from the layers around, which fails where a part is read
more than once, or where a layer lies between that says nothing. Here they are read off the trace of gradients, which
keeps the shape of every tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch_pruning._helpers import _HybridIndex
from torch_pruning.dependency import Dependency, Node
from torch_pruning.ops import OPTYPE

from topocompress.dependencies.layouts import channel_axes, orders
from topocompress.dependencies.parts import Parts, Rearranged, Within
from topocompress.dependencies.places import FIRST, LAST, Places
from topocompress.dependencies.steps import axis_of, input_shape, moved, name_of, reduced_axes, shape_of


class Operations:
    """The operations of a graph that is being built.

    Args:
        nodes: Module, or stand-in for an operation → node.
        steps: Step in the trace of gradients → module or stand-in, of all that was traced.
    """

    def __init__(self, nodes: Mapping[Any, Node], steps: Mapping[Any, Any]) -> None:
        self._nodes, self._steps = nodes, steps
        self.places = Places(nodes, steps)
        self.places.place_parameters()

    def count_parts(self) -> None:  # noqa: PLR0912 - a branch for each operation
        """Give every operation that has parts along the axis of channels its ``parts``; before nodes depend on it.

        Those that add up channels are marked as ``couples``.
        """
        for node in self._nodes.values():
            parts: Parts | None = None
            name = name_of(node.grad_fn)
            if self._axis_into(node) in reduced_axes(node.grad_fn):
                node.module.couples = True
            layout = self.places.layout(node)
            if node in self.places.tables:
                parts = self._rearranged(node)
            elif node.type == OPTYPE.RESHAPE and layout is not None:
                node.type = OPTYPE.ELEMENTWISE  # all that is to be known of it is
            elif node.type == OPTYPE.UNBIND or name == "SelectBackward0":
                parts = self._unbound(node)
            elif node.type == OPTYPE.CONCAT:
                parts = self._concatenated(node)
            elif node.type == OPTYPE.SPLIT:
                parts = self._split(node)
            elif name == "GluBackward0":
                sizes = input_shape(node.grad_fn, 0)
                if sizes and self._axis_into(node) == axis_of(node.grad_fn._saved_dim, len(sizes)):
                    width = sizes[axis_of(node.grad_fn._saved_dim, len(sizes))]
                    parts = Parts([width // 2] * 2, even=True)
            elif name in {"ChannelShuffleBackward0", "NativeChannelShuffleBackward0"}:
                width = shape_of(node.grad_fn, 0)[1]
                parts = Parts([width // node.grad_fn._saved_groups] * node.grad_fn._saved_groups, even=True)
            elif node.type == OPTYPE.SLICE:
                sizes = node.grad_fn._saved_self_sym_sizes
                axis = self._axis_into(node)
                if axis is not None and axis != axis_of(node.grad_fn._saved_dim, len(sizes)):
                    node.type = OPTYPE.ELEMENTWISE  # every channel stays what it is
            if parts is not None:
                node.module.parts = parts
                node.module.concat_sizes = parts.sizes
                if node.type != OPTYPE.CONCAT:
                    node.type = OPTYPE.ELEMENTWISE  # torch-pruning has no say in it

    def map_channels(self) -> None:  # noqa: PLR0912 - a branch for each operation
        """Say which channels of an operation are which of its neighbours', where they differ."""
        for node in self._nodes.values():
            parts, name = getattr(node.module, "parts", None), name_of(node.grad_fn)
            if parts is not None and parts.even:
                prune = node.dependencies[0].trigger
                link = Dependency(trigger=prune, handler=prune, source=node, target=node)
                link.index_mapping[0] = parts.alike
                node.dependencies.append(link)
            if name == "PixelShuffleBackward0":
                each = node.grad_fn._saved_upscale_factor**2
                _between(node, node.outputs, Within(each, 1), Within(1, each))
            elif name == "PixelUnshuffleBackward0":
                each = node.grad_fn._saved_downscale_factor**2
                _between(node, node.inputs, Within(each, 1), Within(1, each))
            elif parts is not None and name == "GluBackward0":
                _between(node, node.outputs, parts.place, parts.all_at)
            elif isinstance(parts, Rearranged):
                _between(node, node.inputs, parts.leave, parts.enter)
            elif node in self.places.passing:
                self._map_product(node)
            elif parts is not None and name == "SelectBackward0":
                number = axis_of(node.grad_fn._saved_index, len(parts.sizes))
                _between(node, node.inputs, parts.into(number), parts.out_of(number))
            elif parts is not None and "Shuffle" in name:
                _between(node, node.outputs, parts.shuffled, parts.ordered)
            elif parts is not None and node.type == OPTYPE.CONCAT:
                node.enable_index_mapping = False  # torch-pruning's own
                places = self.places.inputs(node)
                for source in dict.fromkeys(node.inputs):
                    own = [place for place, other in zip(places, node.inputs, strict=True) if other is source]
                    _in_turn(node, source, [parts.out_of(place) for place in own], slot=0)
                    _in_turn(source, node, [parts.into(place) for place in own], slot=1)
            elif parts is not None:
                for reader, numbers in self._readers(node).items():
                    _in_turn(node, reader, [parts.out_of(number) for number in numbers], slot=0)
                    _in_turn(reader, node, [parts.into(number) for number in numbers], slot=1)

    def _map_product(self, node: Node) -> None:
        """Let heads pass a product as wholes, and nothing where what comes out has no channels."""
        turns: dict[Node, int] = {}
        for source, number in zip(node.inputs, self.places.inputs(node), strict=False):
            turn = turns[source] = turns.get(source, -1) + 1
            sizes = self.places.passing[node][number]
            if sizes is None:
                _sever(node, source, turn)
                continue
            for one, other, slot, mapping in (
                (node, source, 0, Within(*sizes[::-1])),
                (source, node, 1, Within(*sizes)),
            ):
                deps = [dep for dep in one.dependencies if dep.target is other]
                if turn < len(deps):
                    deps[turn].index_mapping[slot] = mapping
        if self.places.layout(node) is None:
            node.module.couples = True

    def part_strangers(self) -> None:
        """Let no channels pass where tensors meet that have no channels in common.

        That is where one has a single channel for all of another's, such as a gate, or where a number for each channel
        has become one for all, such as a mean; and a parameter that goes along another axis, such as one for each row.
        """
        for node in self._nodes.values():
            if (
                node.type in (OPTYPE.ELEMENTWISE, OPTYPE.EXPAND)
                and node.inputs
                and not isinstance(node.module, FIRST + LAST)
            ):
                seen: dict[Node, int] = {}
                for number, source in zip(self.places.inputs(node), node.inputs, strict=False):
                    turn = seen[source] = seen.get(source, -1) + 1
                    if self._strange(node, source, number):
                        _sever(node, source, turn)
            if getattr(node.module, "couples", False):
                for reader in dict.fromkeys(node.outputs):
                    for turn in range(node.outputs.count(reader)):
                        _sever(reader, node, turn)

    def _strange(self, node: Node, source: Node, number: int) -> bool:
        axis, its = self.places.axis(node), self.places.axis(source)
        before, after = input_shape(node.grad_fn, number), shape_of(node.grad_fn, 0)
        if axis is None or its is None or not before or not after or len(before) <= its or len(after) <= axis:
            return False
        here = moved(node.grad_fn, its, number)
        if here != axis:
            return here is not None and self.places.constant(source)
        return before[its] == 1 < after[axis]

    def _concatenated(self, node: Node) -> Parts | None:
        step = node.grad_fn
        whole = shape_of(step, 0)
        axis = axis_of(step._saved_dim, len(whole))
        axes = {self.places.axis(source) for source in node.inputs} - {None}
        if (layout := self.places.layout(node)) is not None and axis not in channel_axes(layout):
            node.type = OPTYPE.ELEMENTWISE  # the same channels of all, at other places
            return None
        if axes != {axis} or len(self.places.inputs(node)) != len(node.inputs):
            return None
        sizes = [input_shape(step, number) for number in range(len(step.next_functions))]
        known = [shape[axis] for shape in sizes if shape]
        unknown = len(sizes) - len(known)
        if unknown > 1:  # constants; how large each is nobody says
            return None
        return Parts([shape[axis] if shape else whole[axis] - sum(known) for shape in sizes])

    def _split(self, node: Node) -> Parts | None:
        step = node.grad_fn
        sizes = tuple(step._saved_self_sym_sizes)
        axis = axis_of(step._saved_dim, len(sizes))
        if self._axis_into(node) != axis:
            return None
        if hasattr(step, "_saved_split_sizes"):
            return Parts(step._saved_split_sizes)
        size, width = int(step._saved_split_size), sizes[axis]
        return Parts([min(size, width - start) for start in range(0, width, size)], even=width % size == 0)

    def _readers(self, node: Node) -> dict[Node, list[int]]:
        """Who reads a split, and which of its parts."""
        found: dict[Node, list[int]] = {}
        for step, module in self._steps.items():
            for before, number in step.next_functions:
                if before is node.grad_fn and module in self._nodes:
                    found.setdefault(self._nodes[module], []).append(number)
        return found

    def _rearranged(self, node: Node) -> Rearranged:
        """Channels with new numbers; where they were shuffled, groups of them stay as many as they are."""
        table = self.places.tables[node]
        shuffled = len(set(table)) == len(table)
        return Rearranged(table, fold=table[1] if shuffled and len(table) > 1 else 0)

    def _unbound(self, node: Node) -> Parts | None:
        """The parts of what is taken apart along an axis, where the first factor of its channels lies there."""
        layout = self.places.layout(node.inputs[0]) if node.inputs else None
        if layout is None:
            return None
        node.type = OPTYPE.ELEMENTWISE
        axis = layout[axis_of(node.grad_fn._saved_dim, len(layout))]
        if not any(order is not None for order, _ in axis):
            return None
        count, whole = math.prod(size for _, size in axis), math.prod(size for _, size in orders(layout))
        return Parts([whole // count] * count, even=True)

    def _axis_into(self, node: Node) -> int | None:
        return self.places.axis(node.inputs[0]) if node.inputs else None


def _between(node: Node, neighbours: Iterable[Node], away: Any, back: Any) -> None:
    """Map channels from a node to its neighbours, and from them back."""
    for other in dict.fromkeys(neighbours):
        for dep in node.dependencies:
            if dep.target is other:
                dep.index_mapping[0] = away
        for dep in other.dependencies:
            if dep.target is node:
                dep.index_mapping[1] = back


def _sever(one: Node, other: Node, turn: int) -> None:
    """Let no channel pass between two nodes, either way."""
    for source, target in ((one, other), (other, one)):
        deps = [dep for dep in source.dependencies if dep.target is target]
        if turn < len(deps):
            deps[turn].index_mapping[:] = [_none, _none]


def _none(_channels: Iterable[_HybridIndex]) -> list[_HybridIndex]:
    return []


def _in_turn(source: Node, target: Node, mappings: Sequence[Any], slot: int) -> None:
    """Give the dependencies from one node on another a mapping each, in their order."""
    deps = [dep for dep in source.dependencies if dep.target is target]
    for dep, mapping in zip(deps, mappings, strict=False):
        dep.index_mapping[slot] = mapping
