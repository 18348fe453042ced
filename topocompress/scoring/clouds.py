"""Scores from feature clouds: passes under a budget of memory, filters spread over processes, layers kept at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from topocompress.criteria.base import CloudCriterion, checked
from topocompress.errors import DataError
from topocompress.network.capture import Batches, Maps, Slice, collect_clouds, map_shapes, plan_passes
from topocompress.network.inference import device_of
from topocompress.network.memory_layout import fast_layout
from topocompress.runtime.kept import unused
from topocompress.runtime.parallel import Run, workers
from topocompress.runtime.progress import Progress
from topocompress.runtime.resources import Resources, cores, peak_memory
from topocompress.runtime.shared_arrays import LocalArray, SharedArray
from topocompress.scoring.store import ScoreStore
from topocompress.scoring.workers import first_looks, score_filters
from topocompress.types import LayerScores

Shapes = Mapping[str, tuple[int, int]]

# What a process that scores filters holds: its libraries, and arrays of samples² and of one block of maps.
_PROCESS_BYTES = 180 << 20
_BYTES_PER_PAIR = 16
# Rough costs on one core, to size tasks and to see whether starting processes pays.
_SECONDS_PER_PRODUCT = 1 / 6e10
_SECONDS_PER_PAIR = 4e-9
_TASK_SECONDS = 0.1
_WORTH_SECONDS = 10.0
_MOST_FILTERS = 64
_LOOKED = 64  # sixteen left the demo with other filters, and a quarter more multiply-accumulates


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What was scored.

    Attributes:
        layers: Name → scores, in the order in which the layers run.
        samples: Calibration samples N.
        run: ``passes`` over the samples, ``peak_cloud_bytes`` held at once, ``workers``, ``layers_reused`` from an
            earlier run, and ``peak_process_bytes`` of this process so far.
    """

    layers: dict[str, LayerScores]
    samples: int
    run: dict[str, int]


def score_clouds(
    model: nn.Module,
    names: Sequence[str],
    criterion: CloudCriterion,
    batches: Batches,
    *,
    resources: Resources,
    maps: Maps,
    store: ScoreStore | None,
    progress: Progress,
) -> Scored:
    """Score the filters of some layers; see :func:`topocompress.scoring.dispatch.score_layers`."""
    samples = sum(len(images) for images, _ in batches)
    if samples < 2:
        raise DataError(f"topology needs at least 2 calibration samples, got {samples}", hint="Raise --samples.")
    first, _ = next(iter(batches), (None, None))
    if first is None:
        raise DataError("the batches can be iterated only once", hint="Give a DataLoader or a list, not a generator.")
    shapes = map_shapes(model, names, first[:1], maps)
    kept = store.load() if store else {}
    found = {name: kept[name] for name in shapes if name in kept}
    if store:
        unfit = {name for name, scores in found.items() if not _fits(scores, shapes[name][0], criterion)}
        unused(store.folder, dict.fromkeys(sorted(unfit), ValueError("it has other filters or parts")))
        found = {name: scores for name, scores in found.items() if name not in unfit}
    todo = {name: shape for name, shape in shapes.items() if name not in found}
    device = str(device_of(model))
    count, budget = _share(shapes, samples, resources, device)
    passes = plan_passes(todo, samples, budget)
    labels = _classes(batches, criterion) if criterion.per_class else None
    work = _Work(
        labels=labels,
        model=model,
        criterion=criterion,
        batches=batches,
        samples=samples,
        maps=maps,
        device=device,
        shared=resources.cluster is None and count > 1,
        layout=fast_layout(model, first[:1]) if todo else torch.contiguous_format,
        progress=progress,
    )
    if todo:
        threads = device != "cpu"  # the device does the large products, and processes could not share it
        with workers(count, cluster=resources.cluster, threads=threads) as run:
            for name, scores in work.layers(run, passes, todo):
                found[name] = scores
                if store:
                    store.save(name, scores)
    if store:
        store.finish()
    planned = plan_passes(shapes, samples, budget)
    held = max((sum(4 * samples * part.features * (part.stop - part.start) for part in p) for p in planned), default=0)
    numbers = {
        "passes": len(planned),
        "peak_cloud_bytes": held,
        "workers": count,
        "layers_reused": len(shapes) - len(todo),
        "peak_process_bytes": peak_memory(),
    }
    return Scored(layers={name: found[name] for name in shapes}, samples=samples, run=numbers)


def _fits(scores: LayerScores, filters: int, criterion: CloudCriterion) -> bool:
    """Whether scores that were kept are what the criterion gives for a layer."""
    return len(scores.values) == filters and set(scores.parts) == set(criterion.parts)


def _classes(batches: Batches, criterion: CloudCriterion) -> NDArray[np.int64]:
    labels = np.concatenate([np.asarray(given, dtype=np.int64) for _, given in batches])
    if (labels < 0).any():
        raise DataError(
            f"criterion {criterion.name!r} by class needs the label of every calibration sample",
            hint="Give labelled --data, or score all samples together.",
        )
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        raise DataError(
            f"class {classes[counts.argmin()]} has one calibration sample; a cloud needs two", hint="Raise --samples."
        )
    return labels


def _share(shapes: Shapes, samples: int, resources: Resources, device: str) -> tuple[int, int]:
    """How many processes, and the bytes that are left for clouds."""
    seconds = sum(channels * _seconds(samples, features) for channels, features in shapes.values())
    count = resources.workers or (cores() if seconds > _WORTH_SECONDS else 1)
    if resources.cluster is not None:
        return count, resources.bytes
    while True:
        own = _PROCESS_BYTES if count > 1 and device == "cpu" else 0
        left = resources.bytes - count * (own + _BYTES_PER_PAIR * samples * samples)
        if count == 1 or left >= resources.bytes // 2:
            return count, max(left, 1)
        count -= 1


def task_size(samples: int, features: int) -> int:
    """How many filters a task has: enough to be worth sending, few enough that all processes are busy to the end."""
    return max(1, min(_MOST_FILTERS, int(_TASK_SECONDS / _seconds(samples, features))))


def _seconds(samples: int, features: int) -> float:
    return samples * samples * (features * _SECONDS_PER_PRODUCT + _SECONDS_PER_PAIR)


@dataclass(kw_only=True)
class _Work:
    labels: NDArray[np.int64] | None
    model: nn.Module
    criterion: CloudCriterion
    batches: Batches
    samples: int
    maps: Maps
    device: str
    shared: bool
    layout: torch.memory_format
    progress: Progress
    ran: int = 0
    runs: int = 1

    def layers(self, run: Run, passes: Sequence[Sequence[Slice]], shapes: Shapes) -> Iterator[tuple[str, LayerScores]]:
        """Name and scores of each layer as soon as its last filter is scored."""
        total = sum(channels for channels, _ in shapes.values())
        parts = Counter(part.layer for slices in passes for part in slices)
        apart = [name for name, count in parts.items() if count > 1] if self.criterion.needs_spread else []
        self.runs = len(passes) + bool(apart)
        spread = self._apart(run, apart, shapes) if apart else {}
        pieces: dict[str, list[tuple[NDArray[np.float64], NDArray[np.bool_]]]] = {name: [] for name in shapes}
        left = {name: channels for name, (channels, _) in shapes.items()}
        done = 0
        for slices in passes:
            clouds = self._clouds(slices)
            if self.criterion.needs_spread:
                spread |= self._spreads(
                    run,
                    {
                        part.layer: [cloud[number : number + 1] for number in looked_at(len(cloud))]
                        for part, cloud in zip(slices, clouds, strict=True)
                        if part.layer not in apart
                    },
                )
            tasks = self._tasks(slices, clouds)
            arguments = ((self.criterion, some, spread.get(layer), self.device, self.labels) for layer, some in tasks)
            for (layer, some), piece in zip(tasks, run(score_filters, arguments), strict=True):
                pieces[layer].append(piece)
                done += len(some)
                left[layer] -= len(some)
                self.progress("scoring filters", done, total)
                if not left[layer]:
                    raw = np.concatenate([scores for scores, _ in pieces[layer]])
                    values, parts_of = checked(layer, self.criterion, raw, shapes[layer][0], self.criterion.parts)
                    dead = np.concatenate([dead for _, dead in pieces.pop(layer)])
                    taken = self.criterion.scale_taken(spread.get(layer))
                    yield layer, LayerScores(values=values, parts=parts_of, dead=dead, scale=taken)
            del tasks, some, clouds  # else they would still be held while the next pass fills the budget

    def _apart(self, run: Run, names: Sequence[str], shapes: Shapes) -> dict[str, float]:
        """What is first found out about layers whose filters do not fit into one pass: their samples run once more."""
        slices = [
            Slice(layer=name, start=number, stop=number + 1, features=shapes[name][1])
            for name in names
            for number in looked_at(shapes[name][0])
        ]
        looks: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
        for part, cloud in zip(slices, self._clouds(slices), strict=True):
            looks[part.layer].append(cloud)
        return self._spreads(run, looks)

    def _spreads(self, run: Run, looks: Mapping[str, Sequence[NDArray[np.float32]]]) -> dict[str, float]:
        """What a layer's number is, from some of its clouds, each (1, samples, features)."""
        tasks = [(name, cloud) for name, clouds in looks.items() for cloud in clouds]
        arguments = ((self.criterion, cloud, self.device) for _, cloud in tasks)
        found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in looks}
        for (name, _), look in zip(tasks, run(first_looks, arguments), strict=True):
            found[name].append(look)
        return {name: self.criterion.spread_of(np.concatenate(each)) for name, each in found.items()}

    def _clouds(self, slices: Sequence[Slice]) -> list[NDArray[np.float32]]:
        def on_batch(count: int) -> None:
            self.ran += count
            self.progress("running samples", self.ran, self.runs * self.samples)

        return collect_clouds(
            self.model,
            slices,
            self.batches,
            self.samples,
            maps=self.maps,
            allocate=SharedArray if self.shared else LocalArray,
            layout=self.layout,
            on_batch=on_batch,
        )

    def _tasks(
        self, slices: Sequence[Slice], clouds: Sequence[NDArray[np.float32]]
    ) -> list[tuple[str, NDArray[np.float32]]]:
        tasks = []
        for part, cloud in zip(slices, clouds, strict=True):
            step = task_size(self.samples, part.features)
            tasks += [(part.layer, cloud[start : start + step]) for start in range(0, len(cloud), step)]
        return tasks


def looked_at(filters: int) -> list[int]:
    """Which of a layer's filters say how finely all of it is looked at: all, or some, evenly spaced."""
    if filters <= _LOOKED:
        return list(range(filters))
    return [int(number) for number in np.linspace(0, filters - 1, _LOOKED).round()]
