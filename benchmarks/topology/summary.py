"""What the last results say, in a line."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from benchmarks.topology.parts import ENGINES
from benchmarks.topology.tables import engine_ratios, loop_ratio, score_ratios


def summary(rows: Mapping[str, Any]) -> str:
    """Against a loop of ripser_parallel, the next engine and the bare forward passes."""
    found = []
    if any(name.startswith("loop/") for name in rows):
        found.append(f"a loop of ripser_parallel takes {loop_ratio(rows):.0f} times as long")
    if any(name.startswith("engines/") for name in rows):
        slower = {name: statistics.median(engine_ratios(rows, name)) for name in ENGINES}
        best = min(slower, key=slower.__getitem__)
        found.append(f"on one core the next engine, {best}, takes {slower[best]:.1f} times as long")
    if ratios := score_ratios(rows, "exact"):
        found.append(f"score takes {statistics.median(ratios):.1f} times as long as the bare forward passes")
    return "; ".join(found)
