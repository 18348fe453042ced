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
RATES, SEEDS = (1e-3, 3e-3, 1e-2), (0, 1)
STEPS, TRACKED = 200, 2_000


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
            if row(cell, name) in results.rows:
                continue
            if time.time() > deadline:
                return
            if cell.title not in images:
                images[cell.title] = _halved(SETS[cell.title], folders, Path(shared))
            steps = 20 if quick else STEPS
            found = results.once(row(cell, name), partial(measured, cell, name, images[cell.title], steps))
            print(row(cell, name), found["rate"], found["final"], flush=True)


def row(cell: Cell, name: str) -> str:
    """What a measurement is called in the file of results."""
    return f"image-grid/{cell.name}/{name}"


def _halved(kind: str, folders: Mapping[str, Path | None], shared: Path) -> Images:
    source = folders[kind]
    if source is None:  # cells without images are not asked for
        raise FileNotFoundError(kind)
    keep(kind, source, shared)
    images = chosen(kept(kind, shared), range(10), CPU)
    (train, learned), (test, wanted) = images.training, images.test
    test, wanted = test[:TRACKED], wanted[:TRACKED]
    return replace(images, training=(F.avg_pool2d(train, 2), learned), test=(F.avg_pool2d(test, 2), wanted))


def measured(cell: Cell, name: str, images: Images, steps: int) -> dict[str, Any]:
    """Test accuracy of the averaged weights as they train, at the rate where it ends highest."""
    channels = images.training[0].shape[1]
    make = partial(network, cell, ACTIVATIONS[name], channels)
    seeds = [seed for _ in RATES for seed in SEEDS]
    runs = Runs(make, len(seeds), images, steps, CPU)
    runs.begin(seeds, [rate for rate in RATES for _ in SEEDS])
    tests, accuracies = moments(steps), []
    for step in range(1, steps + 1):
        runs.step()
        if step in tests:
            accuracies.append(runs.accuracies())
    curves = np.transpose(accuracies).reshape(len(RATES), len(SEEDS), -1)
    ends = curves[:, :, -3:].mean(2)
    best = int(ends.mean(1).argmax())
    return {
        "rate": RATES[best],
        "accuracy": curves[best].round(4).tolist(),
        "final": ends[best].round(4).tolist(),
    }


def steps_to(accuracies: Sequence[Sequence[float]], goal: float) -> float:
    """When the mean of the seeds is first that good; infinite if never."""
    means = np.mean(accuracies, 0)
    return next((float(step) for step, mean in zip(moments(STEPS), means, strict=True) if mean >= goal), math.inf)


def text(rows: Mapping[str, Any]) -> str:
    """Cell by cell the final accuracies and the steps to where ReLU ends, and what they come to."""
    found = {cell: [rows.get(row(cell, name)) for name in ACTIVATIONS] for cell in cells()}
    whole = {cell: entries for cell, entries in found.items() if all(entries)}
    if not whole:
        return "Nothing measured yet.\n"
    lines = [f"{len(whole)} of {len(found)} cells measured.\n"]
    lines += [f"| network | {' | '.join(ACTIVATIONS)} | steps, ReLU ÷ ours |", "|---|---:|---:|---:|---:|"]
    leads: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for cell, entries in sorted(whole.items(), key=lambda item: (item[0].norm, item[0].name)):
        ends = [100 * float(np.mean(entry["final"])) for entry in entries]
        goal = ends[1] / 100
        times = steps_to(entries[1]["accuracy"], goal) / steps_to(entries[0]["accuracy"], goal)
        leads[cell.norm].append((times, ends[0] - max(ends[1:])))
        lines.append(f"| {cell.name} | {' | '.join(f'{end:.1f}' for end in ends)} | {times:.1f}× |")
    lines.append("")
    for norm, some in leads.items():
        if some:
            times, ahead = (np.array(each) for each in zip(*some, strict=True))
            lines.append(
                f"{'With' if norm else 'Without'} BatchNorm: {np.median(times):.1f} times fewer steps than ReLU "
                f"(lowest {times.min():.1f}), final accuracy {ahead.mean():+.1f} points against the better of the "
                f"others (lowest {ahead.min():+.1f}).\n"
            )
    rates = ", ".join(f"{rate:g}" for rate in RATES)
    lines.append(
        f"Images of half the size, {STEPS} steps of 64, Adam, the best rate of {rates}, {len(SEEDS)} seeds, torch's "
        f"start of weights; accuracy in % of {TRACKED:,} test images."
    )
    return "\n".join(lines) + "\n"
