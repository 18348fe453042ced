"""What a comparison of criteria says: a table, a file, and one sentence that does not flatter. Pure numpy."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topocompress.reporting.quantities import amount, spoken, unit_of
from topocompress.runtime.files import atomic_file
from topocompress.types import Cell, Comparison

_SURE = 2.0
"""A difference counts from so many standard errors on."""
_LEAST = 0.002
"""... and from so much accuracy on."""


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and standard deviation over the seeds; 0 for a single one."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One row per ratio and criterion, best first within a ratio, with mean and deviation of every stage."""
    found = []
    for ratio in comparison.ratios:
        block: list[dict[str, Any]] = []
        for criterion in comparison.criteria:
            cells = comparison.of(criterion, ratio)
            stages = {"removed": [c.removed for c in cells], "settled": [c.settled for c in cells]}
            if comparison.finetune:
                stages["tuned"] = [c.final for c in cells]
            block.append(
                {
                    "ratio": ratio,
                    "criterion": criterion,
                    "macs": float(np.mean([cell.macs for cell in cells])) / comparison.macs,
                    **{stage: spread(values) for stage, values in stages.items()},
                }
            )
        found += sorted(block, key=lambda row: -row["tuned" if comparison.finetune else "settled"][0])
    return found


def recommendation(comparison: Comparison) -> str:
    """Which criterion to use on this model, in one sentence.

    Criteria are compared by what they leave in the end, averaged over the ratios, seed by seed. A difference counts if
    it exceeds two standard errors of its mean over the seeds, and 0.2 points.
    """
    names, shown = comparison.criteria, functools.partial(amount, comparison.measure)
    table = {name: _per_seed(comparison, name) for name in names}
    means = {name: float(values.mean()) for name, values in table.items()}
    ranked = sorted(names, key=lambda name: -means[name])
    best = ranked[0]
    if len(names) == 1:
        return f"Only {best} was measured; add random and l1 to --criteria to see what it is worth."
    seeds = len(table[best])
    if seeds < 2:
        return (
            f"{best} leaves most ({shown(means[best])}, {ranked[1]} {shown(means[ranked[1]])}), but one seed has "
            "no error bars: use --seeds 3 before you believe it."
        )
    ties = [name for name in ranked[1:] if not _differs(table[best], table[name])]
    where = f"{spoken(comparison.measure)} averaged over the ratios, {seeds} seeds"
    if any(name.partition("+")[0] == "random" for name in (best, *ties)):
        return (
            f"No criterion is worth its cost on this model: random pruning leaves as much as the best within the error "
            f"bars ({_listed([best, *ties], means, comparison.measure)}; {where})."
        )
    if ties:
        return (
            f"Use {best} on this model, or {_either(ties)}, which cannot be told from it within the error bars "
            f"({_listed([best, *ties], means, comparison.measure)}; {where})."
        )
    second = ranked[1]
    factor, unit = unit_of(comparison.measure)
    gain = factor * (means[best] - means[second])
    lead = f"{gain:.1f} points" if unit else f"{gain:.3g}"
    return (
        f"Use {best} on this model: it leaves {shown(means[best])}, {lead} more than {second}, the next best ({where})."
    )


def write(path: Path, comparison: Comparison) -> None:
    """Write everything as JSON: each result, the table, the sentence.

    Raises:
        OutputError: The file cannot be written.
    """
    content = {
        **{name: value for name, value in asdict(comparison).items() if name != "cells"},
        "cells": [asdict(cell) for cell in comparison.cells],
        "table": [
            {
                key: {"mean": value[0], "std": value[1]} if isinstance(value, tuple) else value
                for key, value in row.items()
            }
            for row in rows(comparison)
        ],
        "recommendation": recommendation(comparison),
    }
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _per_seed(comparison: Comparison, criterion: str) -> NDArray[np.float64]:
    """(seeds,) what is left in the end, averaged over the ratios."""
    found: dict[int, list[Cell]] = {}
    for cell in comparison.cells:
        if cell.criterion == criterion:
            found.setdefault(cell.seed, []).append(cell)
    return np.array([np.mean([cell.final for cell in found[seed]]) for seed in sorted(found)])


def _differs(best: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    gaps = best - other
    error = float(gaps.std(ddof=1)) / len(gaps) ** 0.5
    return bool(gaps.mean() > max(_LEAST, _SURE * error))


def _listed(names: list[str], means: dict[str, float], measure: str) -> str:
    return ", ".join(f"{name} {amount(measure, means[name])}" for name in names)


def _either(names: list[str]) -> str:
    return " or ".join(names)
