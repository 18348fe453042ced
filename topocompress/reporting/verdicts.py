"""What a comparison of criteria says: a table, a file, and one sentence that does not flatter."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from topocompress.reporting.quantities import amount, unit_of
from topocompress.runtime.files import atomic_file
from topocompress.types import Comparison

_SURE = 0.95
"""Confidence, one-sided, from which a difference counts."""
_LEAST = 0.002
"""... and from so much accuracy on."""


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and standard deviation over the seeds; 0 for a single one."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def by_chance(criterion: str) -> bool:
    """Whether a criterion is random pruning, with or without settings of what follows."""
    return criterion.partition("+")[0] == "random"


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


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """How the criteria stand at one ratio.

    Attributes:
        ratio: Share of every group's channels that went.
        leaders: The best, and whatever cannot be told from it, best first.
        gaps: Every criterion, best first, and how much less than the best it leaves, in the measure's unit.
    """

    ratio: float
    leaders: tuple[str, ...]
    gaps: Mapping[str, float]


def judged(comparison: Comparison) -> list[Judgement]:
    """How the criteria stand at each ratio, by what they leave in the end; pairs of them are compared seed by seed.

    A difference counts if it exceeds 0.2 points (of a metric: 0.2 % of the original's) and the one-sided 95 % limit of
    Student's t for its mean over the seeds; with one seed none does.
    """
    least = _LEAST * (1.0 if unit_of(comparison.measure)[1] else abs(comparison.original))
    found = []
    for ratio in comparison.ratios:
        left = {name: _per_seed(comparison, name, ratio) for name in comparison.criteria}
        ranked = sorted(left, key=lambda name: -float(left[name].mean()))
        gaps = {name: left[ranked[0]] - left[name] for name in ranked}
        leaders = tuple(name for name in ranked if not _counts(gaps[name], least))
        found.append(Judgement(ratio=ratio, leaders=leaders, gaps={name: float(gaps[name].mean()) for name in ranked}))
    return found


def recommendation(comparison: Comparison) -> str:
    """Which criterion to use on this model, at which ratio, or that it does not matter, in one sentence."""
    names = comparison.criteria
    if len(names) == 1:
        return f"Only {names[0]} was measured; add random and l1 to --criteria to see what it is worth."
    if len({cell.seed for cell in comparison.cells}) < 2:
        return f"One seed has no error bars: {_plainly(comparison)}; use --seeds 3 to tell them apart."
    alike: dict[frozenset[str], list[Judgement]] = {}
    for each in judged(comparison):
        alike.setdefault(frozenset(each.leaders), []).append(each)
    clauses = [_clause(found, comparison) for found in alike.values()]
    if not any(map(by_chance, names)):
        clauses.append("add random to --criteria to see what chance leaves")
    text = "; ".join(clauses)
    return f"{text[0].upper()}{text[1:]}."


def _clause(found: Sequence[Judgement], comparison: Comparison) -> str:
    """What is said of ratios with the same leaders."""
    leaders = found[0].leaders
    all_of_many = len(found) == len(comparison.ratios) > 1
    where = "every ratio" if all_of_many else _row_of([f"{each.ratio:g}" for each in found])
    if len(leaders) == len(comparison.criteria):
        apart = _range([max(max(each.gaps.values()) for each in found)], comparison)
        return f"at {where} it does not matter: {_row_of(leaders)} are at most {apart} apart, within the error"
    behind = _row_of(
        [
            f"{name} (by {_range([each.gaps[name] for each in found], comparison)})"
            for name in found[0].gaps
            if name not in leaders
        ]
    )
    if any(map(by_chance, leaders)):
        others, chance = (_row_of([n for n in leaders if by_chance(n) is random]) for random in (False, True))
        equal = f"{others} cannot be told from {chance}, which is" if others else f"{chance} is"
        return f"at {where} no criterion beats chance: {equal} ahead of {behind}"
    tie = ", which cannot be told apart: all" if len(leaders) > 1 else ":"
    return f"at {where} use {_row_of(leaders, 'or')}{tie} ahead of {behind}"


def _range(values: Sequence[float], comparison: Comparison) -> str:
    """The least and the largest difference."""
    factor, unit = unit_of(comparison.measure)
    low, high = (f"{factor * find(values):{'.1f' if unit else '.3g'}}" for find in (min, max))
    return f"{low if low == high else f'{low} to {high}'}{' points' if unit else ''}"


def _plainly(comparison: Comparison) -> str:
    """What each criterion leaves at each ratio, equal ones together."""
    said = []
    for ratio in comparison.ratios:
        left: dict[str, list[str]] = {}
        for row in (row for row in rows(comparison) if row["ratio"] == ratio):
            value = row["tuned" if comparison.finetune else "settled"][0]
            left.setdefault(amount(comparison.measure, value), []).append(row["criterion"])
        said.append(f"at {ratio:g} {', '.join(f'{_row_of(names)} {value}' for value, names in left.items())}")
    return "; ".join(said)


def _row_of(names: Sequence[str], word: str = "and") -> str:
    """Names in a row: ``a, b and c``."""
    return f" {word} ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


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


def _per_seed(comparison: Comparison, criterion: str, ratio: float) -> NDArray[np.float64]:
    """(seeds,) what is left in the end."""
    cells = sorted(comparison.of(criterion, ratio), key=lambda cell: cell.seed)
    return np.array([cell.final for cell in cells])


def _counts(gaps: NDArray[np.float64], least: float) -> bool:
    """Whether (seeds,) differences are more than noise."""
    if len(gaps) < 2:
        return False
    error = float(gaps.std(ddof=1)) / len(gaps) ** 0.5
    return bool(gaps.mean() > max(least, stdtrit(len(gaps) - 1, _SURE) * error))
