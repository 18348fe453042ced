"""Where the channels of every node of a graph lie in what it computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch_pruning.dependency import Node
from torch_pruning.ops import OPTYPE

from topocompress.dependencies.layouts import (
    Layout,
    carried,
    channel_axes,
    is_plain,
    multiplies,
    numbers,
    plain,
    product,
    rearranges,
)
from topocompress.dependencies.steps import shape_of
from topocompress.network.layers import CONVOLUTIONS

FIRST = (CONVOLUTIONS, _BatchNorm, _InstanceNorm, nn.GroupNorm)
"""Modules whose channels lie on axis 1 ..."""
LAST = (nn.Linear, nn.Embedding, nn.RNNBase)
"""... and on the last axis."""


class Places:
    """The layouts of a graph that is being built.

    Args:
        nodes: Module, or stand-in for an operation → node.
        steps: Step in the trace of gradients → module or stand-in, of all that was traced.

    Attributes:
        tables: Node that gives channels new numbers → for each of them, which it was.
        passing: Node that multiplies → for each input, how many channels of it and of what comes out are one head.
        axes: Parameter with several axes → that of its channels, where it is known.
    """

    def __init__(self, nodes: Mapping[Any, Node], steps: Mapping[Any, Any]) -> None:
        self._nodes, self._steps = nodes, steps
        self._layouts: dict[Node, Layout | None] = {}
        self.tables: dict[Node, list[int]] = {}
        self.passing: dict[Node, list[tuple[int, int] | None]] = {}
        self.axes: dict[nn.Parameter, int] = {}

    def axis(self, node: Node) -> int | None:
        """The axis of the channels in what a node computes; ``None`` where it is not known, or they lie on several."""
        layout = self.layout(node)
        return channel_axes(layout)[0] if layout is not None and is_plain(layout) else None

    def layout(self, node: Node) -> Layout | None:
        """Where channels lie in what a node computes; ``None`` where it is not known."""
        if node not in self._layouts:
            self._layouts[node] = None  # for now: there may be circles where a module is used again
            found = self._found_layout(node)
            if found is not None and len(axes := channel_axes(found)) == 1 and self._settles(node, found):
                if not is_plain(found):
                    self.tables[node] = numbers(found, axes[0])
                found = plain(shape_of(node.grad_fn, 0), axes[0])
            self._layouts[node] = found
        return self._layouts[node]

    def _settles(self, node: Node, found: Layout) -> bool:
        """Whether channels get the numbers of their places: where what follows does not go on moving them.

        A product does, since it leaves heads beside the samples that they were put together with.
        """
        if is_plain(found):
            return True
        moving = (rearranges(reader.grad_fn) or multiplies(reader.grad_fn) for reader in node.outputs)
        return rearranges(node.grad_fn) and not all(moving)

    def _found_layout(self, node: Node) -> Layout | None:  # noqa: PLR0911 - a line for each kind of node
        shape = shape_of(node.grad_fn, 0)
        if isinstance(node.module, FIRST):
            return plain(shape, 1) if len(shape) > 1 else None
        if isinstance(node.module, LAST):
            return plain(shape, len(shape) - 1) if shape else None
        if node.type == OPTYPE.PARAMETER:
            long = [axis for axis, size in enumerate(node.module.shape) if size > 1]
            axis = long[0] if len(long) == 1 else self.axes.get(node.module)
            return None if axis is None else plain(tuple(node.module.shape), axis)
        places = list(zip(node.inputs, self.inputs(node), strict=False))
        if multiplies(node.grad_fn):
            sources = dict.fromkeys(range(len(node.grad_fn.next_functions)))
            layouts = sources | {number: self.layout(source) for source, number in places}
            known = product(node.grad_fn, [layouts[number] for number in sorted(layouts)])
            if known is None:
                return None
            self.passing[node] = known[1]
            return known[0]
        for source, number in sorted(places, key=lambda each: self.constant(each[0])):
            layout = self.layout(source)
            if layout is not None and (here := carried(node.grad_fn, layout, number)) is not None:
                return here
        return plain(shape, len(shape) - 1) if isinstance(node.module, nn.LayerNorm) and shape else None

    def constant(self, node: Node) -> bool:
        """Whether nothing but parameters goes into a node."""
        if node.type == OPTYPE.PARAMETER:
            return True
        known = isinstance(node.module, FIRST + LAST)
        return not known and bool(node.inputs) and all(self.constant(source) for source in node.inputs)

    def inputs(self, node: Node) -> list[int]:
        """Which of what a step was given each of a node's inputs in the graph is."""
        return [
            number
            for number, (step, _) in enumerate(node.grad_fn.next_functions)
            if step is not None and self._steps.get(step) in self._nodes
        ]

    def place_parameters(self) -> None:
        """Find the axis of channels of parameters with several axes: where they meet what has known ones."""
        for node in list(self._nodes.values()):
            if node.type == OPTYPE.PARAMETER and sum(size > 1 for size in node.module.shape) > 1:
                axis = self._axis_beside(node)
                if axis is not None:
                    self.axes[node.module] = node.pruning_dim = axis
        self._layouts.clear()
        self.tables.clear()

    def _axis_beside(self, parameter: Node) -> int | None:
        shape = tuple(parameter.module.shape)
        carrying: dict[int, Layout] = {axis: plain(shape, axis) for axis, size in enumerate(shape) if size > 1}
        node = parameter
        while len(set(node.outputs)) == 1:
            before, node = node, node.outputs[0]
            number = next(
                (number for source, number in zip(node.inputs, self.inputs(node), strict=False) if source is before), 0
            )
            moved = {axis: carried(node.grad_fn, layout, number) for axis, layout in carrying.items()}
            carrying = {axis: layout for axis, layout in moved.items() if layout is not None}
            if len(node.inputs) > 1:
                met = self.layout(node)
                if met is None:
                    return None
                found = [axis for axis, layout in carrying.items() if channel_axes(layout) == channel_axes(met)]
                return found[0] if len(found) == 1 else None
        return None
