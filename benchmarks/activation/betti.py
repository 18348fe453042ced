"""Betti numbers through the layers of networks that have all just come to the same accuracy.

The networks are those of the tables, but start as :class:`torch.nn.Linear` does. Weights that start larger, so that all
layers keep the mean square, hardly move until the classes are told apart: what the layers do to the topology is then
that of random maps, and no layer but the last changes it, with any activation.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from benchmarks.activation.replay import CPU
from benchmarks.activation.sets import DEPTH, SEEDS, TASKS, Task, best_rate, finite
from benchmarks.activation.stack import LEVELS, Samples, Stack, Training
from benchmarks.activation.zoo import FIRST, FIXED, Activation, in_first_layer
from benchmarks.common.results import Results
from topocompress.activation.point_sets import Labelled
from topocompress.topology.layers import INPUT, class_bettis


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What is compared: an activation, or one for each layer, weight decay, and the start of :class:`Stack`."""

    activation: str | Sequence[Activation]
    decay: float = 0.0
    plain: bool = True


@dataclass(frozen=True, kw_only=True)
class Table:
    """What is trained and counted for one table.

    Attributes:
        networks: What rows about training are called.
        counts: What rows about Betti numbers are called.
        variants: What is compared.
        seeds: One for each network.
    """

    networks: str
    counts: str
    variants: Mapping[str, Variant]
    seeds: Sequence[int]


DECAY = 0.1
VARIANTS = {
    FIRST: Variant(activation=in_first_layer(DEPTH)),
    f"{FIRST}, decay": Variant(activation=in_first_layer(DEPTH), decay=DECAY),
    "SiLU, decay": Variant(activation="SiLU", decay=DECAY),
    "ReLU": Variant(activation="ReLU"),
    "ReLU, decay": Variant(activation="ReLU", decay=DECAY),
    "tanh": Variant(activation="tanh"),
    "tanh, decay": Variant(activation="tanh", decay=DECAY),
    FIXED: Variant(activation=FIXED),
    "ReLU, larger start": Variant(activation="ReLU", plain=False),
    "tanh, larger start": Variant(activation="tanh", plain=False),
}
_first = partial(in_first_layer, DEPTH)
MAIN = Table(networks="betti-networks", counts="betti", variants=VARIANTS, seeds=SEEDS[:5])
TRIED = Table(
    networks="tried-networks",
    counts="tried",
    variants={
        "frequency 4": Variant(activation=_first()),
        "frequency 4, decay 0.1": Variant(activation=_first(), decay=DECAY),
        "frequency 4, decay 0.3": Variant(activation=_first(), decay=0.3),
        "frequency 2": Variant(activation=_first(frequency=2.0)),
        "frequency 6": Variant(activation=_first(frequency=6.0)),
        "frequency 4 in two layers": Variant(activation=_first(waves=2)),
        "frequency 4, amplitude 2": Variant(activation=_first(amplitude=2.0)),
        "frequency 4, GELU behind it": Variant(activation=_first(behind="GELU")),
        "frequency 4, ReLU behind it": Variant(activation=_first(behind="ReLU")),
        "frequency 2 in every layer": Variant(activation=FIXED),
    },
    seeds=(200, 201, 202),
)
"""How the wave in front was chosen; where nothing else is said, SiLU behind it and no decay."""
TRIAL_STEPS, STEPS = 3_000, 6_000
POINTS = 5_000


def train(
    results: Results, weights: Path, table: Table, *, device: torch.device = CPU, deadline: float = float("inf")
) -> None:
    """Networks at their first test at 99 %, kept as they are then; what is there already is not done again."""
    weights.mkdir(parents=True, exist_ok=True)
    for title, task in _tasks().items():
        samples: Samples | None = None
        for name in table.variants:
            row, file = f"{table.networks}/{title}/{name}", _file(weights, table, title, name)
            if row in results.rows and (file.exists() or f"{table.counts}/{title}/{name}" in results.rows):
                continue
            if time.time() > deadline:
                return
            samples = samples or Samples.of(task.source, task.training, device)
            results.rows.pop(row, None)
            found = results.once(row, partial(_Networks(task, table, name, samples).train, file))
            print(row, f"rate {found['rate']:g}, steps to 99 %: {found['steps']}", flush=True)


def measure(results: Results, weights: Path, table: Table) -> None:
    """Both classes after every layer of the networks that have been trained; what is there is not done again."""
    for title, task in _tasks().items():
        for name in table.variants:
            file = _file(weights, table, title, name)
            if not file.exists():
                continue
            found = results.once(f"{table.counts}/{title}/{name}", partial(_through, task, table, name, file))
            totals = np.median([totals_of(network) for network in found["networks"]], 0)
            print(title, name, totals.tolist(), flush=True)


def points_of(task: Task) -> Labelled:
    """Points and labels of a set, on which its Betti numbers can be counted."""
    return task.source.cover() if task.covered else task.source.sample(POINTS, seed=3)


def totals_of(network: Sequence[Sequence[Sequence[int]]]) -> list[int]:
    """Layer → class → Betti numbers, to the sum for each layer."""
    return [sum(map(sum, layer)) for layer in network]


def area(network: Sequence[Sequence[Sequence[int]]]) -> float:
    """The mean over the hidden layers of the sum of all Betti numbers, as a share of the input's."""
    first, *hidden, _ = totals_of(network)
    return float(np.mean(hidden)) / first


def halved(network: Sequence[Sequence[Sequence[int]]]) -> int:
    """The first layer from which on the sum stays below half of the input's; one past the last if none."""
    totals = totals_of(network)
    above = [layer for layer, total in enumerate(totals) if total >= totals[0] / 2]
    return above[-1] + 1


def counted(row: Mapping[str, Any], trained: Mapping[str, Any]) -> list[Any]:
    """The networks of a row that came to 99 %; all, if none did."""
    reached = [net for net, steps in zip(row["networks"], trained["steps"], strict=True) if steps is not None]
    return reached or list(row["networks"])


@dataclass(frozen=True)
class _Networks:
    task: Task
    table: Table
    name: str
    samples: Samples

    def train(self, file: Path) -> dict[str, Any]:
        trial = best_rate(self._training, 2 * TRIAL_STEPS)
        seeds = self.table.seeds
        training = self._training(seeds, [trial["rate"]] * len(seeds))
        tensors = training.stack.tensors()
        kept = [each.detach().clone() for each in tensors]

        def keep(runs: NDArray[Any]) -> None:
            chosen = torch.from_numpy(np.flatnonzero(runs)).to(kept[0].device)
            for target, now in zip(kept, tensors, strict=True):
                target[chosen] = now.detach()[chosen]

        training.run(STEPS, reached=keep)
        keep(~np.isfinite(training.hits[LEVELS[-1]]))  # those that never came there: as they are at the end
        save_file({str(place): each.cpu().contiguous() for place, each in enumerate(kept)}, file)
        return {"rate": trial["rate"], "steps": finite(training.hits[LEVELS[-1]]), "best": training.best.tolist()}

    def _training(self, seeds: Sequence[int], rates: Sequence[float]) -> Training:
        device = self.samples.training[0].device
        variant = self.table.variants[self.name]
        stack = _stack(self.task, variant, seeds, device)
        return Training(stack, self.samples, rates, seeds, decay=variant.decay)


def _stack(task: Task, variant: Variant, seeds: Sequence[int], device: torch.device = CPU) -> Stack:
    inputs = len(task.source.corner)
    return Stack(variant.activation, inputs, task.width, DEPTH, seeds, plain=variant.plain, device=device)


def _through(task: Task, table: Table, name: str, file: Path) -> dict[str, Any]:
    """Layer → class → Betti numbers, for each network; the input is the first layer."""
    points, labels = points_of(task)
    count = len(table.seeds)
    stack = _stack(task, table.variants[name], table.seeds)
    stored = load_file(file)
    with torch.no_grad():
        for place, tensor in enumerate(stack.tensors()):
            tensor.copy_(stored[str(place)])
        outputs = stack.outputs(torch.from_numpy(points).expand(count, *points.shape))
    dimensions = tuple(range(len(task.source.betti[0])))
    see = partial(class_bettis, labels=labels, neighbours=task.neighbours, dimensions=dimensions)
    first = list(see(points).values())
    networks = [[first, *(list(see(out[place].numpy()).values()) for out in outputs)] for place in range(count)]
    return {"layers": [INPUT, *map(str, range(1, DEPTH + 1)), "logits"], "networks": networks}


def _tasks() -> dict[str, Task]:
    return {title: task for title, task in TASKS.items() if task.neighbours}


def _file(weights: Path, table: Table, title: str, name: str) -> Path:
    kind = "" if table is MAIN else f"{table.counts}-"
    return weights / f"{kind}{title}-{name.replace(', ', '-').replace(' ', '-')}.safetensors"
