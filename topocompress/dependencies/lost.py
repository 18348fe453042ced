"""Why the channels of layers were not followed rightly, found out by following a network once more."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor, nn

from topocompress.dependencies.attention import make_explicit
from topocompress.dependencies.calls import explore
from topocompress.dependencies.loose import buffers_traced
from topocompress.dependencies.reasons import why_not_followed
from topocompress.dependencies.tracing import follow
from topocompress.network.baking import bake
from topocompress.network.copying import copied
from topocompress.network.detectors import followed
from topocompress.types.reasons import Reason


def lost_places(model: nn.Module, example: Tensor, roots: Collection[str]) -> dict[str, Reason]:
    """Root layer → why its channels were lost, of those for which it can be said.

    Args:
        model: The network; left as it was.
        example: (1, C, H, W) input.
        roots: Layers that turned out not to be followed rightly.
    """
    twin = copied(model)
    bake(twin)
    make_explicit(twin)
    twin = followed(twin)
    with buffers_traced(twin):
        found = follow(
            twin,
            explore(twin, example),
            lambda part: [pair for root in roots for pair in why_not_followed(part, root)],
        )
    return dict(found)
