"""The study on sets of known topology: learning rates chosen, then ten seeds each."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.activation.replay import CPU
from benchmarks.activation.stack import LEVELS, Samples, Stack, Training
from benchmarks.activation.zoo import ACTIVATIONS, FIRST, FIXED, OURS, in_first_layer
from benchmarks.common.results import Results
from topocompress.activation import point_sets
from topocompress.activation.point_sets import KnownTopology

RATES = (3e-4, 6e-4, 1.25e-3, 2.5e-3, 5e-3, 1e-2, 2e-2)
TRIAL_SEEDS, SEEDS = (100, 101), tuple(range(10))
DEPTH = 6
NAMES = tuple(dict.fromkeys((FIXED, FIRST, *(name for name in ACTIVATIONS if name != OURS))))
QUICK = 60


@dataclass(frozen=True, kw_only=True)
class Task:
    """One set with the network that learns it.

    Attributes:
        source: The set.
        width: Units of each hidden layer.
        steps: After so many a run counts as failed.
        training: Points to learn from.
        longer: So many steps ReLU's runs are given, if not 0: how long it has tried says by how much it is slower.
        neighbours: k of the nearest-neighbour graph for Betti numbers through the layers; 0 for none.
        covered: They are those of the lattice that covers the set: too few random points lie in its small pieces.
    """

    source: KnownTopology
    width: int
    steps: int
    training: int = 50_000
    longer: int = 0
    neighbours: int = 0
    covered: bool = False


TASKS = {
    "D-I": Task(source=point_sets.nine_discs(), width=32, steps=1500, neighbours=14),
    "D-II": Task(source=point_sets.linked_tori(), width=32, steps=1500, neighbours=35),
    "D-III": Task(source=point_sets.nested_spheres(), width=32, steps=1500, neighbours=22, covered=True),
    "annuli": Task(source=point_sets.annuli(7), width=64, steps=1000),
    "rings": Task(source=point_sets.annuli(7, dimension=3), width=64, steps=2000, training=200_000, longer=3000),
}


def study(
    results: Results,
    *,
    quick: bool = False,
    device: torch.device = CPU,
    deadline: float = math.inf,
) -> None:
    """Every activation on every set; what is there already is not done again, and nothing begins after the deadline."""
    for task_name, task in TASKS.items():
        samples: Samples | None = None
        for name in NAMES:
            row = f"sets/{task_name}/{name}"
            if f"{row}/runs" in results.rows:
                continue
            if time.time() > deadline:
                return
            samples = samples or Samples.of(task.source, task.training, device)
            run = _Run(task, name, samples)
            trial = results.once(f"{row}/trial", partial(run.trial, QUICK if quick else task.steps))
            steps = task.longer if name == "ReLU" and task.longer else task.steps
            runs = results.once(f"{row}/runs", partial(run.seeds, trial["rate"], QUICK if quick else steps))
            print(row, f"rate {runs['rate']:g}, steps to 99 %: {runs['steps']['0.99']}", flush=True)


@dataclass(frozen=True)
class _Run:
    task: Task
    name: str
    samples: Samples

    def trial(self, steps: int) -> dict[str, Any]:
        """The best learning rate of the grid: fewest steps to the last level, else the highest accuracy."""
        return best_rate(self.training, steps)

    def seeds(self, rate: float, steps: int) -> dict[str, Any]:
        """The runs that count, with seeds that the choice has not seen."""
        training = self.training(list(SEEDS), [rate] * len(SEEDS))
        training.run(steps)
        return {
            "rate": rate,
            "steps": {f"{level:.2f}": finite(hits) for level, hits in training.hits.items()},
            "best": training.best.tolist(),
            "ran": training.steps,
            "device": self.samples.training[0].device.type,
        }

    def training(self, seeds: Sequence[int], rates: Sequence[float]) -> Training:
        """Networks with such seeds, ready to be trained at such rates."""
        inputs, device = len(self.task.source.corner), self.samples.training[0].device
        activation = in_first_layer(DEPTH) if self.name == FIRST else self.name
        stack = Stack(activation, inputs, self.task.width, DEPTH, seeds, device=device)
        return Training(stack, self.samples, rates, seeds)


def best_rate(training_of: Callable[[Sequence[int], Sequence[float]], Training], steps: int) -> dict[str, Any]:
    """The learning rate with the fewest steps to the last level, else with the highest accuracy, by the trial seeds.

    Where no run gets there in half the steps, all are given the other half too.
    """
    seeds = [seed for _ in RATES for seed in TRIAL_SEEDS]
    training = training_of(seeds, [rate for rate in RATES for _ in TRIAL_SEEDS])
    training.run(steps // 2, among=len(RATES))
    if not np.isfinite(training.hits[LEVELS[-1]]).any():
        training.run(steps, among=len(RATES))
    reached = np.minimum(training.hits[LEVELS[-1]], 2 * steps).reshape(len(RATES), -1).mean(1)
    best = training.best.reshape(len(RATES), -1).mean(1)
    chosen = min(range(len(RATES)), key=lambda index: (reached[index], -best[index]))
    return {"rate": RATES[chosen], "steps": reached.tolist(), "accuracy": best.tolist(), "ran": training.steps}


def finite(hits: Any) -> list[float | None]:
    """Steps, ``None`` for a run that did not get there."""
    return [float(hit) if np.isfinite(hit) else None for hit in hits]
