"""The grid: networks drawn at random that no activation is tuned for, each activation at its own best rate."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.activation.sets import finite
from benchmarks.activation.stack import LEVELS, Samples, Stack, Training
from benchmarks.activation.starts import STARTS
from benchmarks.activation.zoo import OURS, SMOOTH, Activation
from benchmarks.common.results import Results
from topocompress.activation import point_sets
from topocompress.activation.point_sets import KnownTopology

SOURCES: dict[str, Callable[[], KnownTopology]] = {
    "D-I": point_sets.nine_discs,
    "D-II": point_sets.linked_tori,
    "D-III": point_sets.nested_spheres,
    "annuli 3": partial(point_sets.annuli, 3),
    "annuli 5": partial(point_sets.annuli, 5),
    "rings 2": partial(point_sets.annuli, 2, dimension=3),
}
RATES = {"Adam": (2e-3, 7e-3, 2.5e-2), "SGD": (6e-3, 0.025, 0.1, 0.4)}
MOMENTUM = {"Adam": None, "SGD": 0.9}
NORMS = ("none", "BatchNorm", "LayerNorm")
SEEDS = (0, 1, 2)
CELLS, STEPS, QUICK = 120, 600, 20
EXAMPLES, LONGER = 3, 1_200
"""Cells of the example, which come first; there ReLU may take so long."""
LATER, TIMES = "ReLU, later", 4
"""Where ours arrives and ReLU does not, ReLU once more, for so many times the steps of ours."""
HOPELESS = 0.9
"""Where the median of no rate has come to this accuracy in half of :data:`STEPS`, the other half is spared."""
BATCH, TRAINING, TEST = 512, 50_000, 1_000
BASELINES = ("ReLU", *SMOOTH)
NAMES = (OURS, *BASELINES)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One network on one fresh draw of a set.

    Attributes:
        number: Its place in the grid, which seeds the draw of its points.
        source: Of :data:`SOURCES`.
        start: Of the weights.
        depth: Hidden layers.
        width: Their units.
        optimiser: Of :data:`RATES`.
        norm: Of :data:`NORMS`.
    """

    number: int
    source: str
    start: str
    depth: int
    width: int
    optimiser: str
    norm: str

    @property
    def name(self) -> str:
        """Under which it is kept."""
        return (
            f"{self.number:03d} {self.source}, {self.start}, {self.depth}×{self.width}, {self.optimiser}, {self.norm}"
        )


def cells() -> list[Cell]:
    """The issue's own example first, three times; then the sample."""
    example = [
        Cell(number=number, source=source, start="Kaiming", depth=6, width=25, optimiser="Adam", norm="none")
        for number, source in enumerate(("D-I", "D-II", "D-III"))
    ]
    every = list(itertools.product(SOURCES, STARTS, (2, 4, 6, 10), (16, 25, 32, 64), RATES, NORMS))
    drawn = np.random.default_rng(30).choice(len(every), CELLS, replace=False)
    fields = ("source", "start", "depth", "width", "optimiser", "norm")
    return example + [
        Cell(number=number, **dict(zip(fields, every[place], strict=True)))
        for number, place in enumerate(drawn, len(example))
    ]


def study(
    results: Results,
    *,
    names: Iterable[str] = NAMES,
    quick: bool = False,
    deadline: float = math.inf,
) -> None:
    """Every activation in every cell; what is there is not done again, and nothing begins after the deadline."""
    for cell in cells():
        samples: Samples | None = None
        for name in names:
            if row(cell, name) in results.rows or _spared(results, cell, name):
                continue
            if time.time() > deadline:
                return
            samples = samples or samples_of(cell)
            longest = LONGER if name == "ReLU" and cell.number < EXAMPLES else STEPS
            steps = min([QUICK if quick else longest, *_best_before(results, cell, name)])
            found = results.once(row(cell, name), partial(measured, cell, name, samples, steps))
            print(row(cell, name), found["steps"], flush=True)
    for cell in cells():
        own, relu = (results.rows.get(row(cell, name)) for name in (OURS, "ReLU"))
        if own is None or relu is None or row(cell, LATER) in results.rows or math.isfinite(median_steps(relu)):
            continue
        steps = QUICK if quick else TIMES * median_steps(own)
        if time.time() > deadline:
            return
        if math.isfinite(steps) and steps > relu["ran"]:
            again = partial(measured, cell, "ReLU", samples_of(cell), math.ceil(steps), patient=True)
            print(row(cell, LATER), results.once(row(cell, LATER), again)["steps"], flush=True)


def _spared(results: Results, cell: Cell, name: str) -> bool:
    """Whether it is one that is left out where neither ReLU nor GELU arrives: it would take the full time."""
    two = [results.rows.get(row(cell, other)) for other in BASELINES[:2]]
    return name in BASELINES[2:] and all(found and math.isinf(median_steps(found)) for found in two)


def _best_before(results: Results, cell: Cell, name: str) -> list[int]:
    """What one that counts only if it is the best of :data:`SMOOTH` has to beat: the medians of those before it."""
    if name not in SMOOTH[1:]:
        return []
    rows = (results.rows.get(row(cell, other)) for other in SMOOTH[: SMOOTH.index(name)])
    medians = (median_steps(found) for found in rows if found)
    return [math.ceil(median) for median in medians if math.isfinite(median)]


def median_steps(found: Mapping[str, Any]) -> float:
    """Of the seeds of a row; infinite where most have failed."""
    return float(np.median([math.inf if step is None else step for step in found["steps"]]))


def row(cell: Cell, name: str) -> str:
    """What a measurement is called in the file of results."""
    return f"grid/{cell.name}/{name}"


def samples_of(cell: Cell) -> Samples:
    """Points that no other cell has."""
    seeds = (1_000 + 2 * cell.number, 1_001 + 2 * cell.number)
    return Samples.of(SOURCES[cell.source](), TRAINING, test=TEST, seeds=seeds)


def measured(
    cell: Cell, activation: str | Activation, samples: Samples, steps: int, *, patient: bool = False
) -> dict[str, Any]:
    """Steps to the last level at the best rate of the grid, for each seed; all rates train side by side.

    Args:
        cell: The network.
        activation: Its activation, or the name of one.
        samples: What it learns.
        steps: At most.
        patient: Go on also where it looks hopeless.
    """
    rates = RATES[cell.optimiser]
    own = activation if isinstance(activation, str) else [activation] * cell.depth
    seeds = [seed for _ in rates for seed in SEEDS]
    norm = None if cell.norm == "none" else cell.norm
    inputs = samples.training[0].shape[1]
    stack = Stack(own, inputs, cell.width, cell.depth, seeds, start=cell.start, norm=norm)
    each = [rate for rate in rates for _ in SEEDS]
    training = Training(stack, samples, each, seeds, momentum=MOMENTUM[cell.optimiser], batch=BATCH)
    training.run(min(steps, STEPS // 2), among=len(rates), finished=_settled)
    reached = np.median(training.best.reshape(len(rates), -1), axis=1).max()
    if (patient or reached >= HOPELESS) and not _settled(
        training.hits[LEVELS[-1]].reshape(len(rates), -1), training.steps
    ):
        training.run(steps, among=len(rates), finished=_settled)
    hits = training.hits[LEVELS[-1]].reshape(len(rates), -1)
    medians, best = np.median(hits, axis=1), training.best.reshape(len(rates), -1).mean(1)
    chosen = min(range(len(rates)), key=lambda place: (medians[place], -best[place]))
    return {
        "rate": rates[chosen],
        "steps": finite(hits[chosen]),
        "best": round(float(np.median(training.best.reshape(len(rates), -1)[chosen])), 4),
        "ran": training.steps,
    }


def _settled(hits: NDArray[Any], steps: int) -> bool:
    """Whether the best median is known, and the runs that are late at its rate have had half as long again."""
    medians = np.median(hits, axis=1)
    best = medians.min()
    return bool(np.isfinite(best) and (steps >= 1.5 * best or np.isfinite(hits[medians == best]).all(axis=1).any()))
