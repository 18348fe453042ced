"""Parts of a whole, counted in channels, and which channel of one is which of the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch_pruning as tp
from torch import nn
from torch_pruning._helpers import _HybridIndex


class Within:
    """Channels counted in blocks of one size → all channels of the same blocks in another size."""

    def __init__(self, before: int, after: int) -> None:
        self._before, self._after = before, after

    def __call__(self, channels: Iterable[_HybridIndex]) -> list[_HybridIndex]:
        """What the channels are on the other side."""
        found: dict[int, int] = {}
        for each in channels:
            for place in range(self._after):
                found.setdefault(each.idx // self._before * self._after + place, each.root_idx)
        return [_HybridIndex(idx=channel, root_idx=root) for channel, root in sorted(found.items())]


class Parts:
    """How many channels each part of a whole still has."""

    def __init__(self, sizes: Sequence[int], *, even: bool = False) -> None:
        self.sizes = list(sizes)
        self.even = even
        """Whether the parts must go on being of one size."""

    def remove(self, channels: Iterable[int]) -> None:
        """Take away channels of the whole.

        Raises:
            IndexError: There is no such channel: the graph is wrong about the wiring.
        """
        ends = [sum(self.sizes[: number + 1]) for number in range(len(self.sizes))]
        for channel in channels:
            place = next((number for number, end in enumerate(ends) if channel < end), None)
            if place is None:
                raise IndexError(f"channel {channel} of {ends[-1] if ends else 0}")
            self.sizes[place] -= 1

    def out_of(self, number: int) -> Callable[[Iterable[_HybridIndex]], list[_HybridIndex]]:
        """Channels of the whole → those of a part."""

        def mapping(channels: Iterable[_HybridIndex]) -> list[_HybridIndex]:
            start = sum(self.sizes[:number])
            inside = [each for each in channels if start <= each.idx < start + self.sizes[number]]
            return [_HybridIndex(idx=each.idx - start, root_idx=each.root_idx) for each in inside]

        return mapping

    def into(self, number: int) -> Callable[[Iterable[_HybridIndex]], list[_HybridIndex]]:
        """Channels of a part → those of the whole."""

        def mapping(channels: Iterable[_HybridIndex]) -> list[_HybridIndex]:
            start = sum(self.sizes[:number])
            return [_HybridIndex(idx=each.idx + start, root_idx=each.root_idx) for each in channels]

        return mapping

    def place(self, channels: Iterable[_HybridIndex]) -> list[_HybridIndex]:
        """Channels of the whole → their places in equal parts."""
        found: dict[int, int] = {}
        for each in channels:
            found.setdefault(each.idx % self.sizes[0], each.root_idx)
        return [_HybridIndex(idx=channel, root_idx=root) for channel, root in found.items()]

    def all_at(self, channels: Iterable[_HybridIndex]) -> list[_HybridIndex]:
        """Places in equal parts → the channels of the whole there."""
        return [
            _HybridIndex(idx=each.idx + number * self.sizes[0], root_idx=each.root_idx)
            for each in channels
            for number in range(len(self.sizes))
        ]

    def shuffled(self, channels: Iterable[_HybridIndex]) -> list[_HybridIndex]:
        """Channels of the whole → where they are when the parts' first ones come first, then their second ones, ..."""
        many, size = len(self.sizes), self.sizes[0]
        return [_HybridIndex(each.idx % size * many + each.idx // size, each.root_idx) for each in channels]

    def ordered(self, channels: Iterable[_HybridIndex]) -> list[_HybridIndex]:
        """The way back."""
        many, size = len(self.sizes), self.sizes[0]
        return [_HybridIndex(each.idx % many * size + each.idx // many, each.root_idx) for each in channels]

    def alike(self, channels: Iterable[_HybridIndex]) -> list[_HybridIndex]:
        """Channels of the whole → those at the same places in all parts, which must go on being of one size."""
        found = {each.idx: each for each in self.all_at(self.place(channels))}
        return [found[channel] for channel in sorted(found)]


class Rearranged(Parts):
    """What comes out of a step that lays channels out anew: one of them may stand at several places.

    Args:
        table: For every place, which channel of what went in stands there.
        fold: Size of the groups that were shuffled; channels at the same places of them only go together. 0 without.
    """

    def __init__(self, table: Sequence[int], *, fold: int = 0) -> None:
        super().__init__([len(table)], even=fold > 0)
        self._table, self._fold = list(table), fold

    def remove(self, channels: Iterable[int]) -> None:
        """Take away places."""
        gone = set(channels)
        if gone and max(gone) >= len(self._table):
            raise IndexError(f"channel {max(gone)} of {len(self._table)}")
        self._table = [channel for place, channel in enumerate(self._table) if place not in gone]
        self.sizes = [len(self._table)]

    def enter(self, channels: Iterable[_HybridIndex]) -> list[_HybridIndex]:
        """Channels of what goes in → all the places where they stand."""
        left = sorted(set(self._table))
        places: dict[int, list[int]] = {}
        for place, channel in enumerate(self._table):
            places.setdefault(channel, []).append(place)
        return [
            _HybridIndex(idx=place, root_idx=each.root_idx)
            for each in channels
            if each.idx < len(left)
            for place in places[left[each.idx]]
        ]

    def leave(self, channels: Iterable[_HybridIndex]) -> list[_HybridIndex]:
        """The way back."""
        number = {channel: place for place, channel in enumerate(sorted(set(self._table)))}
        found: dict[int, int] = {}
        for each in channels:
            if each.idx < len(self._table):
                found.setdefault(number[self._table[each.idx]], each.root_idx)
        return [_HybridIndex(idx=channel, root_idx=root) for channel, root in found.items()]

    def alike(self, channels: Iterable[_HybridIndex]) -> list[_HybridIndex]:
        """Places → those of the same channels of all groups."""
        found: dict[int, int] = {}
        for each in channels:
            if each.idx < len(self._table):
                found.setdefault(self._table[each.idx] % self._fold, each.root_idx)
        return [
            _HybridIndex(idx=place, root_idx=found[channel % self._fold])
            for place, channel in enumerate(self._table)
            if channel % self._fold in found
        ]


def parts_of(module: Any) -> Parts:
    """The parts of an operation that has some; none otherwise."""
    found = getattr(module, "parts", None)
    return found if isinstance(found, Parts) else Parts(())


def _sizes(module: Any) -> list[int]:
    return parts_of(module).sizes


class Parted(tp.ops.DummyPruner):  # type: ignore[misc]
    """Keeps count of what is left of the parts of an operation; nothing else is to be done there."""

    def prune_out_channels(self, layer: nn.Module, idxs: list[int]) -> nn.Module:
        """Remove channels of the whole."""
        parts_of(layer).remove(idxs)
        return layer

    prune_in_channels = prune_out_channels

    def get_in_channels(self, layer: nn.Module) -> int:
        """How many are left of the whole."""
        return sum(_sizes(layer))

    def get_out_channels(self, layer: nn.Module) -> int | None:
        """How many come out: of a concatenation the whole, else a part, where all are of one size."""
        if isinstance(layer, tp.ops._ConcatOp):
            return sum(_sizes(layer))
        return _sizes(layer)[0] if len(set(_sizes(layer))) == 1 else None
