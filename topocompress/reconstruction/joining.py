"""How many samples are on their way through a network at once: few where maps are large, more where they are small."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor

from topocompress.errors import DataError
from topocompress.reconstruction.pairs import HELD_OUT
from topocompress.reconstruction.streams import Order

MAPS = 5
"""Maps of the size of a sample's largest that are there while a network runs."""


def joining(
    images: Sequence[Tensor], order: Order, stops: Sequence[str], budget: int
) -> tuple[list[Tensor], list[int]]:
    """Where samples come in that run through a network side by side and all stop at the same layers.

    Large maps lie early as a rule, where each sample shows many positions; the many samples that late layers need come
    in later. Nothing leaves before the end, so a stop has room for as many as all that follow it have.

    Args:
        images: Batches (B, ...).
        order: What running the network has shown.
        stops: Names of layers, in its order.
        budget: Bytes for the maps of all samples that are on their way.

    Returns:
        Batches, and for each the number of the stop at which it comes in, none lower than that of the batch before;
        what does not fit at any is left out.

    Raises:
        DataError: At the first stop fewer samples fit than are needed to hold one out.
    """
    if not stops:
        return list(images), [0] * len(images)
    sizes = {name: shape.numel() * images[0].element_size() for name, shape in order.shapes.items()}
    ran, rooms = list(sizes), list[int]()
    for name in stops:
        near = ran[max(0, ran.index(name) - MAPS) :]  # those before may still be there
        rooms.append(budget // (MAPS * max(sizes[each] for each in near)))
    if rooms[0] < HELD_OUT:
        raise DataError(
            f"only {rooms[0]} of {sum(map(len, images))} calibration samples fit side by side: there are "
            f"{budget / 1e6:.3g} MB for their maps",
            hint="Allow more with --memory.",
        )
    size = min(rooms[0], len(images[0]))
    parts = [batch[start : start + size] for batch in images for start in range(0, len(batch), size)]
    joins = [sum(room < end for room in rooms) for end in itertools.accumulate(map(len, parts))]
    there = sum(join < len(stops) for join in joins)
    return parts[:there], joins[:there]
