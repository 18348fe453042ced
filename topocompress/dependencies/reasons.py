"""Where the following of channels ends, in words: which operation, in which module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from topocompress.dependencies.channel_routes import Disjoint, Reached, routes
from topocompress.dependencies.layouts import kind_of
from topocompress.dependencies.tracing import Part
from topocompress.network.layers import LAYERS, width_of
from topocompress.types.reasons import Kind, Reason

_WORDS = {
    "ConstantPadNd": "a padding of the channels (F.pad)",
    "Slice": "a slice of the channels by number",
    "Roll": "a shift of the channels (roll)",
    "Flip": "a reversal of the channels (flip)",
    "Index": "a choice of channels by index",
    "IndexSelect": "a choice of channels by index",
    "Gather": "a choice of channels by index",
    "Select": "a choice of one channel",
    "Unbind": "parts that lie between one another (unbind)",
    "View": "a view that puts channels together with other axes",
    "UnsafeView": "a view that puts channels together with other axes",
    "ReshapeAlias": "a view that puts channels together with other axes",
    "Split": "a split of the channels by numbers written in the code",
    "SplitWithSizes": "a split of the channels by numbers written in the code",
    "Bmm": "a product of matrices over the channels",
    "Cat": "a concatenation along several axes of channels",
    "Repeat": "a repetition of the channels",
    "Unfold": "patches of maps (unfold)",
    "Im2Col": "patches of maps (unfold)",
}


def lost(part: Part, members: Sequence[Reached]) -> Reason:
    """Why channels were lost that the layers of a group reach: the operation, or the layer that reads other ones."""
    where = _ends(part, members)
    return Reason(Kind.REARRANGED, where) if where else Reason(Kind.LOST, _misread(part, members))


def _misread(part: Part, members: Sequence[Reached]) -> str:
    """The layer that reads other channels than there are, and the last step before it that lays numbers out anew."""
    graph = part.graph
    for member in members:
        node, name = graph.module2node.get(member.module), graph._module2name.get(member.module)
        if not member.wrong or node is None or not name or not isinstance(member.module, LAYERS):
            continue
        step, seen = node, {node}
        while step.inputs and step.inputs[0] not in seen and not _takes_apart(step):
            step = step.inputs[0]
            seen.add(step)
        of = [part.name] if part.name else []
        reads = (
            f"{'.'.join([*of, name])} ({type(member.module).__name__}) takes {width_of(member.module, out=member.out)}"
        )
        module = ".".join(filter(None, (part.name, graph.origins.get(step.grad_fn, ""))))
        behind = f", behind a view of the channels in {module or 'the forward pass'}" if _takes_apart(step) else ""
        return f": {reads}{behind}"
    return ""


def _takes_apart(node: Any) -> bool:
    return node.grad_fn is not None and "View" in kind_of(node.grad_fn)


def _ends(part: Part, members: Sequence[Reached]) -> str:
    """The operations where following ends: what comes in has known channels, and what comes out has not; or nothing."""
    graph = part.graph
    found: dict[str, None] = {}
    for member in members:
        node = graph.module2node.get(member.module)
        if node is None or node.grad_fn is None or graph.layouts.get(node) is not None:
            continue
        if not any(graph.layouts.get(source) is not None for source in node.inputs):
            continue
        kind = kind_of(node.grad_fn)
        if kind in ("Addmm", "Mm"):
            continue  # inside a linear layer that reads them
        if "ScaledDotProduct" in kind:
            kind = "Bmm"
        where = ".".join(filter(None, (part.name, graph.origins.get(node.grad_fn, ""))))
        found[f"{_WORDS.get(kind, f'{kind} of the channels')} in {where or 'the forward pass'}"] = None
    names = graph._module2name
    wrong = [names[each.module] for each in members if each.wrong and isinstance(each.module, nn.Linear)]
    if not found and wrong:
        found[f"a linear layer with another number of inputs ({wrong[0]}), which goes along another axis,"] = None
    return "; ".join(list(found)[:2])


def why_not_followed(part: Part, root_name: str) -> list[tuple[str, Reason]]:
    """The name of a layer, and the operations where its channels are lost, if its part has it and there are any."""
    names = {name: module for module, name in part.graph._module2name.items()}
    root = names.get(part.own_name(root_name))
    if root is None or root not in part.graph.module2node:
        return []
    where = _ends(part, routes(part.graph, root, Disjoint(width_of(root, out=True))))
    return [(root_name, Reason(Kind.REARRANGED, where))] if where else []
