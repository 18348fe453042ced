"""The study on images: CNNs of ordinary size with and without BatchNorm, two classes and ten."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.activation_data import SETS, Images, Raw, chosen, cifar, fashion
from benchmarks.activation_runs import Runs
from benchmarks.activation_zoo import CANDIDATES, OURS, layer
from benchmarks.topology import Results

NAMES = ("ReLU", "GELU", "SiLU", "Mish", OURS, "leaky ReLU", "tanh")
KINDS = {"plain": False, "BatchNorm": True}
RATES = (1.25e-3, 2.5e-3, 5e-3, 1e-2, 2e-2)
TRIAL_SEEDS, SEEDS = (100, 101), tuple(range(10))
STEPS = {10: 1_000, 2: 500}
"""By the number of classes: a little more than one epoch of all images, and 2.7 of a pair's."""
TRACKED = 4_000
"""Test images, or all of a pair's, on which a run is tested as it goes; the last three tests are on all."""
TRIED_ON = ("Fashion-MNIST, 10", "CIFAR-10, cat or dog")
"""Where settings of ours are tried."""
WIDTHS, STRIDES = (32, 64, 128, 128), (1, 2, 1, 2)


class OutOfTime(Exception):
    """The deadline has come in the middle of a measurement."""


def moments(steps: int) -> tuple[int, ...]:
    """Every 7 % more steps, and three times within the last twentieth."""
    last = {round(steps * share) for share in (0.96, 0.98, 1)}
    return tuple(sorted({round(10 * 1.07**power) for power in range(80)} & set(range(round(0.95 * steps))) | last))


def study(
    results: Results, folders: dict[str, Path | None], device: torch.device, deadline: float, *, table: bool
) -> None:
    """Every activation on every set whose images there are; what is there already is not done again.

    Args:
        results: Where they go.
        folders: ``fashion`` and ``cifar`` → where the images lie, or ``None``.
        device: Where the networks are trained.
        deadline: On the clock of :func:`time.monotonic`; what would end after it is not kept.
        table: The runs that count; else the trials of what was tried for ours.
    """
    names = NAMES if table else CANDIDATES
    titles = [title for title in SETS if table or title in TRIED_ON]
    rows = [f"images/{title}/{kind}/{name}/" for name in names for kind in KINDS for title in titles]
    end = "runs" if table else "trial"
    if all(row + end in results.rows for row in rows):
        return
    read = {"fashion": fashion, "cifar": cifar}
    raw: dict[str, Raw] = {kind: read[kind](folder) for kind, folder in folders.items() if folder is not None}
    found = {title: chosen(raw[SETS[title][0]], SETS[title][1], device) for title in titles if SETS[title][0] in raw}
    cells = [Cell(title, found[title], kind, device, deadline) for kind in KINDS for title in found]
    try:
        for name, cell in itertools.product(names, cells):
            if table:
                cell.runs(results, name)
            else:
                cell.trial(results, name)
    except OutOfTime:
        print("the deadline has come", flush=True)


@dataclass(frozen=True)
class Cell:
    """One set of images and one kind of network."""

    title: str
    images: Images
    kind: str
    device: torch.device
    deadline: float

    def trial(self, results: Results, name: str) -> Any:
        """The learning rates on half the steps, with seeds that count nowhere else."""
        return self._with(results, name)[0]

    def runs(self, results: Results, name: str) -> None:
        """The runs that count, at the best rate."""
        trial, side = self._with(results, name)
        row = f"images/{self.title}/{self.kind}/{name}/runs"
        if row not in results.rows:
            found = results.once(row, partial(_runs, side, trial["rate"]))
            print(row, f"rate {trial['rate']:g}, final accuracies {found['final']}", flush=True)

    def _with(self, results: Results, name: str) -> tuple[Any, _Side]:
        side = _Side(name, self)
        row = f"images/{self.title}/{self.kind}/{name}/trial"
        if row not in results.rows:
            found = results.once(row, partial(_trial, side))
            print(
                row, [f"{rate:g}: {score:.4f}" for rate, score in zip(RATES, found["scores"], strict=True)], flush=True
            )
        return results.rows[row], side


@dataclass(frozen=True)
class _Side:
    """The networks of one cell with one activation, set up when the first of them is trained."""

    name: str
    cell: Cell

    @property
    def steps(self) -> int:
        return STEPS[self.cell.images.classes]

    @cached_property
    def _set_up(self) -> Runs:
        channels = self.cell.images.training[0].shape[1]
        make = partial(network, self.name, channels, self.cell.images.classes, norm=KINDS[self.cell.kind])
        return Runs(lambda seed: make(seed=seed), len(SEEDS), self.cell.images, self.steps, self.cell.device)

    def train(self, seeds: Sequence[int], rates: Sequence[float], steps: int) -> dict[str, Any]:
        """Accuracy of each run at each test; after the last three also of all test images."""
        runs = self._set_up
        runs.begin(seeds, rates)
        tests = moments(steps)
        accuracies, last = [], []
        started = time.monotonic()
        for step in range(1, steps + 1):
            runs.step()
            if step in tests:
                if time.monotonic() > self.cell.deadline:
                    raise OutOfTime
                accuracies.append(runs.accuracies(TRACKED))
                if step in tests[-3:]:
                    last.append(runs.accuracies())
        return {
            "accuracy": np.transpose(accuracies).tolist(),
            "last": np.transpose(last).tolist(),
            "seconds": time.monotonic() - started,
        }


def _trial(side: _Side) -> dict[str, Any]:
    """The rate with the highest mean accuracy over the later half of the tests, in half the steps."""
    seeds = [seed for _ in RATES for seed in TRIAL_SEEDS]
    found = side.train(seeds, [rate for rate in RATES for _ in TRIAL_SEEDS], side.steps // 2)
    late = np.array(found["accuracy"])[:, len(moments(side.steps // 2)) // 2 :]
    scores = late.mean(1).reshape(len(RATES), -1).mean(1)
    return {"rate": RATES[int(scores.argmax())], "scores": scores.tolist(), "seconds": found["seconds"]}


def _runs(side: _Side, rate: float) -> dict[str, Any]:
    found = side.train(SEEDS, [rate] * len(SEEDS), side.steps)
    return {"rate": rate, **found, "final": np.round(np.mean(found["last"], 1), 5).tolist()}


def network(
    name: str, channels: int, classes: int, seed: int, *, norm: bool, widths: Sequence[int] = WIDTHS
) -> nn.Module:
    """Four convolutions, global average, linear; weights start so that every layer's output has mean square 1."""
    generator = torch.Generator().manual_seed(seed)
    modules: list[nn.Module] = []
    scale = 1.0
    for width, stride in zip(widths, STRIDES, strict=True):
        conv = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=not norm)
        activation = layer(name, width, generator, norm=norm)
        with torch.no_grad():
            conv.weight.normal_(0, scale / math.sqrt(9 * channels), generator=generator)
            if conv.bias is not None:
                conv.bias.zero_()
        modules += [conv, *([nn.BatchNorm2d(width)] if norm else []), activation]
        channels, scale = width, _gain(name, norm)
    head = nn.Linear(channels, classes)
    with torch.no_grad():
        head.weight.normal_(0, 1 / math.sqrt(channels), generator=generator)
        head.bias.zero_()
    return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


@cache
def _gain(name: str, norm: bool) -> float:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        outputs = layer(name, 64, generator, norm=norm)(torch.randn(64, 64, 8, 8, generator=generator))
    return float(outputs.square().mean().rsqrt())
