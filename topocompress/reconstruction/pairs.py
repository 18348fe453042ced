"""An original and a pruned network side by side: what they have in common, and which samples judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torch import nn

from topocompress.dependencies.groups import explicit
from topocompress.dependencies.heads import attention_heads
from topocompress.reconstruction.patches import is_product

HELD_OUT = 5
"""One sample in so many is held out: what is fitted to the others is judged by it."""


def written_alike(original: nn.Module, pruned: nn.Module) -> nn.Module:
    """The original with its attention written out, as it is in what heads were removed from; it makes other calls."""
    return explicit(original) if attention_heads(pruned) else original


def layers_of_both(pruned: nn.Module, original: nn.Module) -> Iterator[str]:
    """Layers that both networks have, each with weights of its own."""
    after = dict(pruned.named_modules())
    owners = Counter(id(p) for module in original.modules() for p in module._parameters.values() if p is not None)
    for name, module in original.named_modules():
        same = type(after.get(name)) is type(module)
        if is_product(module) and same and owners[id(module._parameters["weight"])] == 1:
            yield name
