"""What the last results say, in a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.alignment.tables import BATCHES, means


def summary(rows: Mapping[str, Any]) -> str:
    """How much faster the networks are with every alignment, at the smallest batch."""
    shared, found = means(rows, BATCHES[0])
    if not shared:
        return ""
    faster = ", ".join(f"{speed:.2f} ({align})" for align, (_, speed) in found.items())
    return (
        f"geometric mean of {len(shared)} networks at batch {BATCHES[0]}, times faster than unpruned by --round-to: "
        f"{faster}"
    )
