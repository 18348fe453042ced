"""Where the following of channels ends, in words: which operation, in which module."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from topocompress.dependencies.channel_routes import Disjoint, Reached, routes
from topocompress.dependencies.layouts import kind_of
from topocompress.dependencies.tracing import Part
from topocompress.network.layers import width_of

_WORDS = {
    "ConstantPadNd": "a padding of the channels (F.pad)",
    "Slice": "a slice of the channels by number",
    "Roll": "a shift of the channels (roll)",
    "Flip": "a reversal of the channels (flip)",
    "Index": "a choice of channels by index",
    "IndexSelect": "a choice of channels by index",
    "Gather": "a choice of channels by index",
    "Select": "a choice of one channel",
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
REARRANGED = "rearranges its channels by fixed numbers"
_ADVICE = "write it with chunk, cat or sizes from x.shape, or leave it whole"


def ends(part: Part, members: Sequence[Reached]) -> str:
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


def why_not_followed(part: Part, root_name: str) -> list[tuple[str, str]]:
    """The name of a layer, and the operations where its channels are lost, if its part has it and there are any."""
    names = {name: module for module, name in part.graph._module2name.items()}
    root = names.get(part.own_name(root_name))
    if root is None or root not in part.graph.module2node:
        return []
    return [(root_name, ends(part, routes(part.graph, root, Disjoint(width_of(root, out=True)))))]


def lost_in(where: str) -> str:
    """The reason why a layer stays."""
    return f"{where} {REARRANGED}: {_ADVICE}"
