"""How steps of several runs are summed up, failed ones among them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.activation.stack import LEVELS


def spread(values: Sequence[float | None]) -> str:
    """Median and quartiles of steps; runs that failed count as more than any that did not."""
    steps = sorted(math.inf if value is None else value for value in values)
    median, low, high = (quantile(steps, share) for share in (0.5, 0.25, 0.75))
    return f"{_text(median)} ({_text(low)}–{_text(high)})" if math.isfinite(median) else "never"


def quantile(ordered: Sequence[float], share: float) -> float:
    """Between the two values around it, which may be infinite."""
    place = share * (len(ordered) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low if low == high else low + (high - low) * (place - math.floor(place))


def _text(value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) else "never"


def median_steps(entry: Mapping[str, Any], level: float = LEVELS[-1]) -> float:
    """Of the runs of a row, to a level; infinite where most have failed."""
    return quantile(sorted(math.inf if v is None else v for v in entry["steps"][f"{level:.2f}"]), 0.5)


def times_fewer(other: float, own: float, limit: float) -> str:
    """By what factor our steps are fewer; ``limit`` is what the other ran for."""
    if not math.isfinite(own):
        return "not reached"
    return f"{other / own:.1f}×" if math.isfinite(other) else f"more than {limit / own:.1f}×"
