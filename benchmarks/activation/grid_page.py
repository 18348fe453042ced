"""What the grid has found, as text for ``docs/research/activation.md``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.activation.grid import (
    BASELINES,
    CELLS,
    EXAMPLES,
    HOPELESS,
    LATER,
    LONGER,
    RATES,
    STEPS,
    TIMES,
    Cell,
    cells,
    median_steps,
    row,
)
from benchmarks.activation.zoo import OURS, SMOOTH

WORSE = 1.1
KEYS: dict[str, Callable[[Cell], Any]] = {
    "set": lambda cell: cell.source,
    "start": lambda cell: cell.start,
    "depth": lambda cell: cell.depth,
    "width": lambda cell: cell.width,
    "optimiser": lambda cell: cell.optimiser,
    "normalisation": lambda cell: cell.norm,
}


@dataclass(frozen=True, kw_only=True)
class Found:
    """Median steps of one cell, infinite for an activation that does not arrive.

    Attributes:
        cell: The cell.
        own: Of ours.
        steps: Of each other that was run.
        later: Of ReLU where it had more time, or how long it then ran in vain; ``None`` where it had not.
    """

    cell: Cell
    own: float
    steps: dict[str, float]
    later: float | None = None

    @property
    def arrived(self) -> bool:
        """Whether any does."""
        return math.isfinite(min(self.own, *self.steps.values()))

    @property
    def judged(self) -> bool:
        """Whether all were run, and one of them arrives."""
        return set(BASELINES) <= set(self.steps) and self.arrived

    @property
    def relu(self) -> float:
        """ReLU's steps as a multiple of ours, a lower bound where it does not arrive."""
        if self.later is not None:
            return self.later / self.own
        return min(self.steps["ReLU"], STEPS) / self.own

    @property
    def best(self) -> float:
        """The best smooth one's steps as a multiple of ours, a lower bound where none arrives."""
        return min(STEPS, *(self.steps[name] for name in SMOOTH)) / self.own

    @property
    def failed(self) -> bool:
        """Whether ours does not arrive where ReLU or GELU does."""
        return math.isinf(self.own) and math.isfinite(min(self.steps["ReLU"], self.steps["GELU"]))


def found(rows: Mapping[str, Any]) -> list[Found]:
    """Cells in which ours and as many others as are run there have been measured."""
    listed = []
    for cell in cells():
        steps = {name: median_steps(rows[key]) for name in BASELINES if (key := row(cell, name)) in rows}
        needed = BASELINES if math.isfinite(min(steps.get(name, 0) for name in BASELINES[:2])) else BASELINES[:2]
        if row(cell, OURS) in rows and set(needed) <= set(steps):
            later = min(median_steps(rows[key]), rows[key]["ran"]) if (key := row(cell, LATER)) in rows else None
            listed.append(Found(cell=cell, own=median_steps(rows[row(cell, OURS)]), steps=steps, later=later))
    return listed


def text(rows: Mapping[str, Any]) -> str:
    """The figures of the sample, what they are by each property of the cells, the example, and where ours is worse."""
    measured = found(rows)
    sample = [each for each in measured if each.cell.number >= EXAMPLES]
    if not any(each.judged for each in sample):
        return "Nothing measured yet.\n"
    parts = [*_sample(sample), *_by(sample), *_example(measured), *_worse(sample)]
    return "\n".join(parts) + "\n"


def in_short(rows: Mapping[str, Any]) -> str:
    """The figures of the sample in one line, if there are any."""
    sample = [each for each in found(rows) if each.cell.number >= EXAMPLES]
    arrived = [each for each in sample if each.arrived]
    judged = [each for each in sample if each.judged]
    if not judged:
        return ""
    return (
        f"grid of {len(sample)} cells: median steps of ReLU ÷ ours {_median(each.relu for each in arrived)}, of the "
        f"best of four ÷ ours {_best(judged)}"
    )


def _sample(sample: Sequence[Found]) -> Iterator[str]:
    arrived = [each for each in sample if each.arrived]
    judged = [each for each in sample if each.judged]
    worse = sum(each.best < 1 / WORSE for each in judged)
    alone = sum(len(each.steps) == 2 for each in arrived)
    yield f"| {len(sample)} of {CELLS} cells measured, {len(arrived)} of them learned by any | |"
    yield "|---|---:|"
    yield f"| steps of ReLU ÷ ours, median | **{_median(each.relu for each in arrived)}** |"
    yield f"| steps of the best of {', '.join(SMOOTH)} ÷ ours, median ({len(judged)} cells) | **{_best(judged)}** |"
    share = 100 * worse / len(judged)
    yield f"| ours more than 10 % behind that best | {worse} of {len(judged)} cells ({share:.0f} %) |"
    yield f"| ours does not arrive where ReLU or GELU does | {sum(each.failed for each in judged)} cells |"
    yield f"| ours arrives where neither ReLU nor GELU does | {alone} cells |"
    rates = "; ".join(f"{name} {', '.join(f'{rate:g}' for rate in some)}" for name, some in RATES.items())
    yield (
        f"\nSteps to 99 % of the test points, median of three seeds at the best rate of one grid ({rates}), at most "
        f"{STEPS} steps; where no rate came to {100 * HOPELESS:.0f} % in half of them, the other half was spared. "
        f"A ReLU that does not arrive had about {TIMES} times the steps of ours, if that arrives; a ratio to one that "
        f"does not arrive is a lower bound. SiLU, Mish and tanh were trained for as long as they could still be the "
        f"best, and not at all where neither ReLU nor GELU arrives; those cells do not count in the "
        f"second line.\n"
    )


def _median(values: Any) -> str:
    return f"{float(np.median(list(values))):.1f}×"


def _best(judged: Sequence[Found]) -> str:
    return _median(each.best for each in judged)


def _by(sample: Sequence[Found]) -> Iterator[str]:
    yield "| cells | learned by any | ReLU ÷ ours | best of four ÷ ours | behind by more than 10 % | not arrived |"
    yield "|---|---:|---:|---:|---:|---:|"
    for title, key in KEYS.items():
        for value in sorted({key(each.cell) for each in sample}):
            some = [each for each in sample if key(each.cell) == value and each.arrived]
            judged = [each for each in some if each.judged]
            if not judged:
                continue
            worse, failed = sum(each.best < 1 / WORSE for each in judged), sum(each.failed for each in judged)
            name = value if title == "set" else f"{title} {value}"
            ratios = f"{_median(each.relu for each in some)} | {_best(judged)}"
            yield f"| {name} | {len(some)} | {ratios} | {worse} of {len(judged)} | {failed} |"


def _example(measured: Sequence[Found]) -> Iterator[str]:
    some = [each for each in measured if each.cell.number < EXAMPLES]
    if not some:
        return
    yield f"\nSix layers of 25, Kaiming's start, Adam, no normalisation; ReLU up to {LONGER:,} steps:\n"
    yield f"| set | ours | {' | '.join(BASELINES)} |"
    yield f"|---|---:|{'---:|' * len(BASELINES)}"
    for each in some:
        others = " | ".join(_steps(each.steps[name]) if name in each.steps else "not run" for name in BASELINES)
        yield f"| {each.cell.source} | {_steps(each.own)} | {others} |"


def _steps(steps: float) -> str:
    return f"{steps:.0f}" if math.isfinite(steps) else "—"


def _worse(sample: Sequence[Found]) -> Iterator[str]:
    behind = sorted((each for each in sample if each.judged and each.best < 1 / WORSE), key=lambda each: each.best)
    if behind:
        yield "\nWhere ours is more than 10 % behind:\n"
        yield f"| cell | ours | {' | '.join(BASELINES)} |"
        yield f"|---|---:|{'---:|' * len(BASELINES)}"
    for each in behind:
        others = " | ".join(_steps(each.steps[name]) for name in BASELINES)
        yield f"| {each.cell.name[4:]} | {_steps(each.own)} | {others} |"
