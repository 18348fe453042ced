"""The grid on images: CNNs of four kinds and two widths, with and without BatchNorm, on images of half the size."""

from __future__ import annotations

import itertools
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.activation.data import Images, chosen, keep, kept
from benchmarks.activation.images import moments
from benchmarks.activation.replay import CPU
from benchmarks.activation.runs import Runs
from benchmarks.activation.zoo import OURS
from benchmarks.common.results import Results
from topocompress import TopologicalActivation

ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    OURS: TopologicalActivation,
    "ReLU": lambda _: nn.ReLU(),
    "GELU": lambda _: nn.GELU(),
}
SETS = {"Fashion-MNIST": "fashion", "CIFAR-10": "cifar"}
KINDS, WIDTHS = ("plain", "residual", "depthwise", "VGG"), (8, 16)
LADDER = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
RATES = LADDER[2:5]
"""Tried first; where one at the edge is best, the next of :data:`LADDER` too, until none is."""
SEEDS, MORE = (0, 1), (2, 3, 4, 5, 6, 7)
"""Of every cell, by which a rate is chosen, and of those with BatchNorm, where less is between the activations."""
STEPS, TRACKED = 200, 2_000
"""Of a run; and test images on which it is tested as it goes. With more seeds the last three tests are on all."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One kind of network on one set.

    Attributes:
        title: Of :data:`SETS`.
        kind: Of :data:`KINDS`.
        width: Channels of the first convolution.
        norm: Whether BatchNorm follows every convolution.
    """

    title: str
    kind: str
    width: int
    norm: bool

    @property
    def name(self) -> str:
        """Under which it is kept."""
        return f"{self.title}, {self.kind}, {self.width}, {'with' if self.norm else 'without'} BatchNorm"


def cells() -> list[Cell]:
    """All of them, in random order: the first are a fair sample."""
    every = list(itertools.product(SETS, KINDS, WIDTHS, (False, True)))
    order = np.random.default_rng(30).permutation(len(every))
    return [Cell(**dict(zip(("title", "kind", "width", "norm"), every[place], strict=True))) for place in order]


class _Residual(nn.Module):
    def __init__(self, inner: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.inner, self.after = inner, after

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.after(inputs + self.inner(inputs))
        return found


def network(cell: Cell, activation: Callable[[int], nn.Module], channels: int, seed: int) -> nn.Module:
    """Weights start as torch's do."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(*_layers(cell, activation, channels))


def _layers(cell: Cell, activation: Callable[[int], nn.Module], channels: int) -> Iterator[nn.Module]:
    width = cell.width

    def conv(before: int, after: int, stride: int = 1, **options: Any) -> Iterator[nn.Module]:
        options = {"kernel_size": 3, "padding": 1, **options}
        yield nn.Conv2d(before, after, stride=stride, bias=not cell.norm, **options)
        if cell.norm:
            yield nn.BatchNorm2d(after)

    def block(before: int, after: int, stride: int = 1, **options: Any) -> Iterator[nn.Module]:
        yield from conv(before, after, stride, **options)
        yield activation(after)

    if cell.kind == "VGG":
        for before, after in ((channels, width), (width, 2 * width)):
            yield from block(before, after)
            yield from block(after, after)
            yield nn.MaxPool2d(2)
        yield from (nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(18 * width, 64), activation(64), nn.Linear(64, 10))
        return
    yield from block(channels, width)
    if cell.kind == "plain":
        yield from block(width, 2 * width, 2)
        yield from block(2 * width, 4 * width)
        yield from block(4 * width, 4 * width, 2)
    for before, after in ((width, 2 * width), (2 * width, 4 * width)):
        if cell.kind == "residual":
            yield from block(before, after, 2)
            yield _Residual(nn.Sequential(*block(after, after), *conv(after, after)), activation(after))
        if cell.kind == "depthwise":
            yield from block(before, before, 2, groups=before)
            yield from block(before, after, kernel_size=1, padding=0)
    yield from (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10))


def study(
    results: Results,
    folders: Mapping[str, Path | None],
    *,
    names: Iterable[str] = tuple(ACTIVATIONS),
    quick: bool = False,
    deadline: float = math.inf,
) -> None:
    """Every activation in every cell whose images there are; nothing is done again or begun after the deadline."""
    listed = [cell for cell in cells() if folders[SETS[cell.title]]]
    images: dict[str, Images] = {}
    with tempfile.TemporaryDirectory() as shared:
        for cell, name in itertools.product(listed, names):
            wanted = [row(cell, name), *([row(cell, name, more=True)] if cell.norm else [])]
            if results.rows.keys() >= set(wanted):
                continue
            if time.time() > deadline:
                return
            if cell.title not in images:
                images[cell.title] = _halved(SETS[cell.title], folders, Path(shared))
            given = cell, name, images[cell.title], 20 if quick else STEPS
            found = results.once(wanted[0], partial(measured, *given))
            if cell.norm:
                found = results.once(wanted[1], partial(repeated, *given, found["rate"]))
            print(row(cell, name), found["rate"], found["final"], flush=True)


def row(cell: Cell, name: str, *, more: bool = False) -> str:
    """What a measurement is called in the file of results."""
    return f"image-grid/{cell.name}/{name}{'/more seeds' if more else ''}"


def _halved(kind: str, folders: Mapping[str, Path | None], shared: Path) -> Images:
    source = folders[kind]
    if source is None:  # cells without images are not asked for
        raise FileNotFoundError(kind)
    keep(kind, source, shared)
    images = chosen(kept(kind, shared), range(10), CPU)
    (train, learned), (test, wanted) = images.training, images.test
    return replace(images, training=(F.avg_pool2d(train, 2), learned), test=(F.avg_pool2d(test, 2), wanted))


def measured(cell: Cell, name: str, images: Images, steps: int) -> dict[str, Any]:
    """Test accuracy of the averaged weights as they train, at the rate where it ends highest."""
    found: dict[float, NDArray[Any]] = {}
    wanted: Sequence[float] = RATES
    while wanted:
        every = [(seed, rate) for rate in wanted for seed in SEEDS]
        accuracies = [runs.accuracies(TRACKED) for runs in _trained(cell, name, images, every, moments(steps))]
        found |= zip(wanted, np.transpose(accuracies).reshape(len(wanted), len(SEEDS), -1), strict=True)
        wanted = further({rate: float(curves[:, -3:].mean()) for rate, curves in found.items()})
    best = max(found, key=lambda rate: float(found[rate][:, -3:].mean()))
    return _entry(best, found[best], found[best][:, -3:].mean(1))


def further(ends: Mapping[float, float]) -> list[float]:
    """What else has to be tried, of rates and the accuracies where they ended: the best one's neighbours."""
    place = LADDER.index(max(ends, key=lambda rate: ends[rate]))
    return [rate for rate in LADDER[max(0, place - 1) : place + 2] if rate not in ends]


def repeated(cell: Cell, name: str, images: Images, steps: int, rate: float) -> dict[str, Any]:
    """The same with more seeds at the rate that is chosen, and at the end on all test images."""
    tests, tracked, last = moments(steps), [], []
    for step, runs in zip(tests, _trained(cell, name, images, [(seed, rate) for seed in MORE], tests), strict=True):
        tracked.append(runs.accuracies(TRACKED))
        if step in tests[-3:]:
            last.append(runs.accuracies())
    return _entry(rate, np.transpose(tracked), np.mean(last, 0))


def _entry(rate: float, accuracy: NDArray[Any], final: NDArray[Any]) -> dict[str, Any]:
    return {"rate": rate, "accuracy": accuracy.round(4).tolist(), "final": final.round(5).tolist()}


def _trained(
    cell: Cell, name: str, images: Images, every: Sequence[tuple[int, float]], tests: Sequence[int]
) -> Iterator[Runs]:
    """Networks of such seeds and rates side by side, at each of the tests."""
    make = partial(network, cell, ACTIVATIONS[name], images.training[0].shape[1])
    runs = Runs(make, len(every), images, tests[-1], CPU)
    runs.begin(*zip(*every, strict=True))
    for step in range(1, tests[-1] + 1):
        runs.step()
        if step in tests:
            yield runs


def steps_to(accuracies: Sequence[Sequence[float]], goal: float) -> float:
    """When the mean of the seeds is first that good; infinite if never."""
    means = np.mean(accuracies, 0).round(9)
    return next((float(step) for step, mean in zip(moments(STEPS), means, strict=True) if mean >= goal), math.inf)


def text(rows: Mapping[str, Any]) -> str:
    """Cell by cell the final accuracies and the steps to where ReLU ends, and what they come to."""
    whole = {cell: entries for cell in cells() if (entries := _entries(rows, cell))}
    if not whole:
        return "Nothing measured yet.\n"
    lines = [f"{len(whole)} of {len(cells())} cells measured.\n"]
    lines += [
        f"| network | seeds | {' | '.join(ACTIVATIONS)} | ours − better | steps, ReLU ÷ ours |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    leads: dict[bool, list[tuple[float, float, float]]] = {False: [], True: []}
    for cell, entries in sorted(whole.items(), key=lambda item: (item[0].norm, item[0].name)):
        ends = 100 * np.array([entry["final"] for entry in entries])
        ahead = ends[0] - ends[1 + int(ends[1:].mean(1).argmax())]
        error = ahead.std(ddof=1) / math.sqrt(len(ahead))
        goal = round(float(np.mean([run[-3:] for run in entries[1]["accuracy"]])), 9)
        times = steps_to(entries[1]["accuracy"], goal) / steps_to(entries[0]["accuracy"], goal)
        leads[cell.norm].append((times, ahead.mean(), (ends[0] - ends[2]).mean()))
        lines.append(
            f"| {cell.name} | {len(ahead)} | {' | '.join(f'{end:.1f}' for end in ends.mean(1))} "
            f"| {ahead.mean():+.1f} ± {error:.1f} | {times:.1f}× |"
        )
    lines.append("")
    for norm, some in leads.items():
        if some:
            times, ahead, smooth = (np.array(each) for each in zip(*some, strict=True))
            lines.append(
                f"{'With' if norm else 'Without'} BatchNorm: {np.median(times):.1f} times fewer steps than ReLU "
                f"(lowest {times.min():.1f}), final accuracy {ahead.mean():+.1f} points against the better of the "
                f"others (lowest {ahead.min():+.1f}), {smooth.mean():+.1f} against GELU.\n"
            )
    rates, beyond = (", ".join(f"{rate:g}" for rate in each) for each in (RATES, [*LADDER[:2], *LADDER[5:]]))
    lines.append(
        f"Images of half the size, {STEPS} steps of 64, Adam, torch's start of weights. {len(SEEDS)} seeds at the best "
        f"rate of {rates}, and beyond ({beyond}) as long as the outermost is best; accuracy in % of {TRACKED:,} test "
        f"images. Where there are {len(MORE)} seeds, they are others at that rate, and all 10,000 images. After ± the "
        f"standard error of the mean over seeds; steps are those to where ReLU ends, 0 if it is not reached."
    )
    return "\n".join(lines) + "\n"


def _entries(rows: Mapping[str, Any], cell: Cell) -> list[Any]:
    """Of each activation, with more seeds if all have them; none unless all are there."""
    for more in (True, False):
        found = [rows.get(row(cell, name, more=more)) for name in ACTIVATIONS]
        if all(found):
            return found
    return []
