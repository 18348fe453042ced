"""What products of matrices, attention among them, cost for each unit of channels that goes into them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from topocompress.dependencies.channel_routes import Reached
from topocompress.dependencies.layouts import multiplies, width
from topocompress.dependencies.steps import input_shape, name_of, shape_of
from topocompress.dependencies.tracing import Part


def product_macs(part: Part, members: Iterable[Reached], units: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """(units,) multiply-accumulates of products of matrices that go with each unit of a group; empty without any.

    Args:
        part: The part of the network in which the group lies.
        members: What its channels reach.
        units: The root's channels of each unit.
    """
    graph = part.graph
    spent: dict[int, float] = {}
    seen: set[Any] = set()
    for member in members:
        node = graph.module2node.get(member.module)
        step = node.grad_fn if node is not None else None
        if step is None or step in seen or step not in graph.counted or not multiplies(step):
            continue
        seen.add(step)
        layout = graph.layouts.get(node)
        channels = max(len(member.sources), width(layout) if layout is not None else 0)
        for source in member.sources.values():
            spent[source] = spent.get(source, 0.0) + _macs(step) / channels
    return tuple(sum(spent.get(channel, 0.0) for channel in unit) for unit in units) if spent else ()


def _macs(step: Any) -> int:
    """Multiply-accumulates of a product of matrices, or of the two of attention."""
    after = shape_of(step, 0)
    shapes = [input_shape(step, number) for number in range(len(step.next_functions))]
    if "ScaledDotProduct" in name_of(step):
        query, key = shapes[0], shapes[1]
        longest = (query or key or (0,))[-1]
        keys = (key or shapes[2] or after)[-2]
        return math.prod(after[:-1]) * keys * (longest + after[-1])
    first, second = shapes[-2:]  # a batch of products may be added to something
    summed = first[-1] if first else second[-2] if second else 0
    return math.prod(after) * summed
