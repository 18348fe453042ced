"""Feature clouds of a network's filters, collected under a memory budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from topocompress.errors import DataError, ModelError
from topocompress.network.hook_points import hooked
from topocompress.runtime.shared_arrays import LocalArray, Writable
from topocompress.types.networks import MOST_PIXELS

Batches = Iterable[tuple[Tensor, Tensor]]
"""Batches of (images (B, C, H, W), labels (B,)) that give the same samples every time they are iterated."""

Allocate = Callable[[tuple[int, int, int]], Writable]
"""Makes room for the (filters, samples, features) clouds of a slice."""

_STAGED_BYTES = 16 << 20
_MOST_DIRECTIONS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Maps:
    """How a filter's maps become the points of its cloud.

    Attributes:
        size: Average maps larger than this many pixels a side down to it (adaptive average pooling).
        sketch: Project maps of more numbers than this onto so many random directions (Gaussian Johnson–Lindenstrauss):
            the squared distance of a pair keeps its mean and gets a relative standard error of √(2 / sketch).
    """

    size: int | None = None
    sketch: int | None = None

    def __post_init__(self) -> None:
        for name, value, most in (("map size", self.size, MOST_PIXELS), ("sketch", self.sketch, _MOST_DIRECTIONS)):
            if value is not None and not 1 <= value <= most:
                raise DataError(f"a {name} of {value}", hint=f"Give a whole number from 1 to {most}, or leave it out.")

    def settings(self) -> dict[str, Any]:
        """What differs from exact maps, as plain data."""
        return {name: value for name, value in (("map_size", self.size), ("sketch", self.sketch)) if value is not None}

    def points(self, maps: Tensor) -> Tensor:
        """(batch, channels, ...) points of (batch, channels, ...) maps, not flattened yet."""
        if self.size is not None:
            maps = averaged_down(maps, self.size)
        features = math.prod(maps.shape[2:])
        if self.sketch is None or features <= self.sketch:
            return maps
        flat = maps.reshape(*maps.shape[:2], features)
        generator = torch.Generator().manual_seed(features)  # the same directions for every batch and channel
        directions = torch.randn(features, self.sketch, generator=generator) / math.sqrt(self.sketch)
        # In double precision, so that copies stay copies and the size of a batch or slice is not seen in the result.
        return (flat.double() @ directions.to(flat.device).double()).to(flat.dtype)


def averaged_down(maps: Tensor, side: int) -> Tensor:
    """(samples, channels, ...) maps of two or three axes, each at most ``side`` long; others as they are."""
    pool = _POOLS.get(maps.ndim - 2)
    if pool is None or max(maps.shape[2:]) <= side:
        return maps
    averaged: Tensor = pool(maps, [min(each, side) for each in maps.shape[2:]])
    return averaged


_POOLS: dict[int, Callable[..., Tensor]] = {2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


EXACT = Maps()
"""Every number of every map."""


def made_maps(size: int | str | None, sketch: int | None) -> Maps | None:
    """How maps become points, as it was asked for; ``None`` if nothing was.

    Raises:
        DataError: A number below 1, or a word that is not ``full``.
    """
    if isinstance(size, str) and size != "full":
        raise DataError(f"a map size of {size[:80]!r}", hint="Give a whole number above 0, or full.")
    if size is None and sketch is None:
        return None
    return Maps(size=None if isinstance(size, str) else size, sketch=sketch)


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Some channels of one layer, collected together in one pass.

    Attributes:
        layer: Module name.
        start: First channel.
        stop: One past the last channel.
        features: Numbers per map, h · w.
    """

    layer: str
    start: int
    stop: int
    features: int


def map_shapes(
    model: nn.Module, layers: Sequence[str], example: Tensor, maps: Maps = EXACT
) -> dict[str, tuple[int, int]]:
    """Channels and features per map of each layer, in the order in which the layers run.

    Args:
        model: The network; left as it was.
        layers: Names of modules whose output is (batch, channels, ...), or (batch, ..., channels) for Linear.
        example: (batch, C, H, W) input.
        maps: How maps become points.

    Returns:
        Name → (channels, features of a point). A layer that the forward pass does not run is missing.

    Raises:
        ModelError: The network does not accept the example.
    """
    shapes: dict[str, tuple[int, int]] = {}

    def deliver(layer: str, output: Tensor) -> None:
        points = maps.points(output)
        shapes.setdefault(layer, (points.shape[1], math.prod(points.shape[2:])))

    order: list[str] = []
    with hooked(model, layers, deliver, order=order, whole=True) as run:
        run(example)
    return {layer: shapes[layer] for layer in order}


def plan_passes(shapes: Mapping[str, tuple[int, int]], samples: int, budget: int) -> list[list[Slice]]:
    """Pack the layers' channels into forward passes whose clouds fit the budget.

    Args:
        shapes: Layer → (channels, features per map).
        samples: Calibration samples.
        budget: Bytes that the clouds of one pass may take. A single filter that exceeds it gets a pass of its own.

    Returns:
        One list of slices per pass; every channel of every layer is in exactly one.
    """
    passes: list[list[Slice]] = [[]]
    free = budget
    for layer, (channels, features) in shapes.items():
        each = 4 * samples * features
        start = 0
        while start < channels:
            count = min(channels - start, free // each)
            if count <= 0 and passes[-1]:
                passes.append([])
                free = budget
                continue
            count = max(1, count)
            passes[-1].append(Slice(layer=layer, start=start, stop=start + count, features=features))
            start += count
            free -= count * each
    return [slices for slices in passes if slices]


def collect_clouds(
    model: nn.Module,
    slices: Sequence[Slice],
    batches: Batches,
    samples: int,
    *,
    maps: Maps = EXACT,
    allocate: Allocate = LocalArray,
    layout: torch.memory_format = torch.contiguous_format,
    on_batch: Callable[[int], None] | None = None,
) -> list[NDArray[np.float32]]:
    """Run every sample through the model once and keep the maps of some channels.

    Args:
        model: The network; left as it was.
        slices: What to keep.
        batches: The samples.
        samples: How many there are.
        maps: How maps become points.
        allocate: Where the clouds are kept; by default in ordinary memory.
        layout: How images lie in memory; see :func:`topocompress.network.memory_layout.fast_layout`.
        on_batch: Called with the number of samples after each batch.

    Returns:
        One (filters, samples, features) float32 array per slice.

    Raises:
        DataError: NaN or infinity among the inputs, or the number of samples changes between passes.
        ModelError: NaN or infinity in a map, or a layer's map changes size.
    """
    rooms = [allocate((part.stop - part.start, samples, part.features)) for part in slices]
    stage = _Stage()
    wanted: dict[str, list[int]] = {}
    for index, part in enumerate(slices):
        wanted.setdefault(part.layer, []).append(index)
    seen, arriving, filled = 0, 0, dict.fromkeys(wanted, 0)

    def deliver(layer: str, output: Tensor) -> None:
        if filled[layer] > seen:  # a layer that runs twice per pass is judged by its first run
            return
        if len(output) != arriving:
            raise ModelError(
                f"{layer}: {len(output)} maps for {arriving} samples; it does not see each sample once",
                hint="Keep it whole with --ignore.",
            )
        for index in wanted[layer]:
            part = slices[index]
            points = maps.points(output[:, part.start : part.stop])
            if math.prod(points.shape[2:]) != part.features:
                raise ModelError(f"{layer}: its maps change size from batch to batch; all samples must have one size")
            if not _finite(points):
                raise ModelError(
                    f"{layer}: NaN or infinity in its maps, first in samples {seen}..{seen + len(points) - 1}",
                    hint="Check the weights and that inputs are normalised as in training (--mean, --std).",
                )
            stage.write(points, rooms[index], seen)
        filled[layer] += len(output)

    with hooked(model, wanted, deliver, layout=layout) as run:
        for images, _ in batches:
            if not _finite(images):
                raise DataError(f"NaN or infinity among input samples {seen}..{seen + len(images) - 1}")
            if seen + len(images) > samples:
                raise DataError(f"the batches hold more than the {samples} samples counted before")
            arriving = len(images)
            run(images)
            seen += len(images)
            if on_batch is not None:
                on_batch(len(images))
    if seen != samples or any(count != samples for count in filled.values()):
        raise DataError(f"expected {samples} samples in every pass, got {seen}", hint="Batches must be re-iterable.")
    return [room.values for room in rooms]


def _finite(values: Tensor) -> bool:
    return bool(values.sum().isfinite() or values.isfinite().all())  # a sum of numbers can overflow


class _Stage:
    """Buffers, used again and again, in which maps are turned around on their way into the clouds.

    Maps are (batch, channels, ...) and may lie channels-last; clouds are (channels, batch, features). Written straight
    into the clouds, every number would go to a page of its own.
    """

    def __init__(self) -> None:
        self._plain, self._across = torch.empty(0), torch.empty(0)

    def write(self, points: Tensor, room: Writable, start: int) -> None:
        """Put the points of a batch into a cloud, whose sample ``start`` is the first of the batch."""
        each = 4 * max(1, points[0].numel())
        for part in torch.split(points, max(1, _STAGED_BYTES // each)):
            if self._plain.numel() < part.numel():
                self._plain, self._across = torch.empty(part.numel()), torch.empty(part.numel())
            plain = self._plain[: part.numel()].view(part.shape).copy_(part)
            across = self._across[: part.numel()].view(part.shape[1], len(part), -1)
            across.copy_(plain.reshape(*part.shape[:2], -1).transpose(0, 1))
            room.write(start, across.numpy())
            start += len(part)
