"""What the last results say, in a few lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.arena.page import ahead
from benchmarks.arena.rows import OURS
from benchmarks.arena.setting import NETWORKS


def summary(rows: Mapping[str, Any]) -> str:
    """How ours does against the best baseline after fine-tuning, network by network."""
    found = [f"{name} {by}" for name in NETWORKS if (by := ahead(rows, name))]
    return f"fine-tuned, {OURS} against the best baseline: {'; '.join(found)}" if found else ""
