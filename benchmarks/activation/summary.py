"""What the last results say, in a few lines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from benchmarks.activation import grid_page
from benchmarks.activation.data import SETS
from benchmarks.activation.image_page import cell_of, lead_of
from benchmarks.activation.images import KINDS
from benchmarks.activation.sets import TASKS
from benchmarks.activation.steps import median_steps
from benchmarks.activation.zoo import FIXED, OURS


def summary(rows: Mapping[str, Any]) -> str:
    """Steps in the grid and on the sets of known topology, and final accuracy of the CNNs."""
    return "; ".join(part for part in (grid_page.in_short(rows), _sets(rows), _images(rows)) if part)


def _sets(rows: Mapping[str, Any]) -> str:
    found = []
    for title in TASKS:
        ours, relu = (rows.get(f"sets/{title}/{name}/runs") for name in (FIXED, "ReLU"))
        if ours and relu:
            found.append(f"{_steps(ours)} on {title} (ReLU {_steps(relu)})")
    return f"median steps to 99 % at frequency 2: {', '.join(found)}" if found else ""


def _steps(entry: Mapping[str, Any]) -> str:
    median = median_steps(entry)
    return f"{median:.0f}" if math.isfinite(median) else "never"


def _images(rows: Mapping[str, Any]) -> str:
    cells = [cell_of(rows, title, kind) for title in SETS for kind in KINDS]
    leads = [lead_of(cell)[0] for cell in cells if OURS in cell and len(cell) > 1]
    if not leads:
        return ""
    return (
        f"final accuracy of CNNs, against the best other activation: {min(leads):+.2f} to {max(leads):+.2f} points, "
        f"ahead in {sum(lead > 0 for lead in leads)} of {len(leads)} cells"
    )
