"""Samples in memory once they are read, as small as they can be without losing anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset, Subset

from topocompress.data.datasets import Item, SampleSet
from topocompress.data.loading import Data
from topocompress.errors import DataError
from topocompress.network.inference import sample_count
from topocompress.network.inputs import packed
from topocompress.types import InputPart, Preprocessing


class Packed(Dataset[Any]):
    """Samples whose several inputs are packed into one tensor.

    Args:
        source: A map-style dataset of (inputs, label); inputs are tensors in a tuple, list or dict.
        parts: What the network takes.
    """

    def __init__(self, source: Dataset[Any], parts: Sequence[InputPart]) -> None:
        self._source, self._parts = source, parts

    def __len__(self) -> int:
        return sample_count(self._source)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        inputs, label = self._source[index]
        return packed(self._parts, inputs, f"sample {index}"), label


def with_packed(data: Data, parts: Sequence[InputPart], preprocessing: Preprocessing) -> Data:
    """Loaded data for a network that takes several tensors.

    Raises:
        DataError: Its first sample is one tensor.
    """
    first: Any = data.calibration[0][0]
    if isinstance(first, Tensor):
        if data.preprocessing is not None and data.preprocessing.inputs:
            return data
        raise DataError(
            f"{data.source} yields one tensor a sample, and the network takes {', '.join(part.name for part in parts)}",
            hint="Yield them in a tuple or a dict, with the label behind.",
        )
    return replace(
        data,
        calibration=Packed(data.calibration, parts),
        train=None if data.train is None else Packed(data.train, parts),
        evaluation=Packed(data.evaluation, parts),
        judging=None if data.judging is None else Packed(data.judging, parts),
        preprocessing=preprocessing,
    )


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
            pixels, label = source[number] if own is None else (own.pixels(number), own.target(number))
            size = pixels.numel() * pixels.element_size()
            if size > self._room:
                return (pixels if own is None else own.finish(pixels)), label
            self._room -= size
            self._found[index] = pixels, label
        pixels, label = self._found[index]
        return (pixels if own is None else own.finish(pixels)), label
