"""Samples in memory once they are read, as small as they can be without losing anything."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils.data import Dataset, Subset

from topocompress.data.datasets import Item, SampleSet
from topocompress.network.inference import sample_count


class Kept(Dataset[Item]):
    """Samples of any set, each read once as long as there is room.

    Args:
        source: A map-style dataset of (image, label) pairs.
        room: Bytes that may be kept; what comes after is read again each time.
    """

    def __init__(self, source: Dataset[Item], room: int) -> None:
        self._source, self._room = source, room
        self._found: dict[int, tuple[Tensor, Any]] = {}

    def __len__(self) -> int:
        return sample_count(self._source)

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        source: Any = self._source
        number = index
        while isinstance(source, Subset):
            source, number = source.dataset, int(source.indices[number])
        own = source if isinstance(source, SampleSet) else None
        if index not in self._found:
            pixels, label = source[number] if own is None else (own.pixels(number), int(own.targets[number]))
            size = pixels.numel() * pixels.element_size()
            if size > self._room:
                return (pixels if own is None else own.finish(pixels)), label
            self._room -= size
            self._found[index] = pixels, label
        pixels, label = self._found[index]
        return (pixels if own is None else own.finish(pixels)), label
