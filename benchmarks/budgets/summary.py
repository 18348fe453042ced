"""Tables and words on budgets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.budgets.simulation import LIMITS, SIZES, simulated

Rows = Mapping[str, Any]


def table(rows: Rows) -> str:
    """What the searches find, as Markdown."""
    lines = [
        "| network | budget | judges | really exceeded | MACs left | exceeded without bound | MACs left |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    names = sorted({key.partition("/")[0] for key in rows if "/" in key})
    for name in names:
        sizes = {
            row["macs"]: np.unpackbits(np.frombuffer(bytes.fromhex(row["right"]), np.uint8))[: row["images"]]
            for key, row in rows.items()
            if key.startswith(f"{name}/") and "right" in row
        }
        for limit in LIMITS:
            for size in SIZES:
                found = simulated(sizes, limit, size)
                lines.append(
                    f"| {name} | {limit:g} | {size:,} | {found.exceeded:.1%} | {found.macs} | "
                    f"{found.plainly_exceeded:.1%} | {found.plain_macs} |"
                )
    return "\n".join(lines)


def summary(rows: Rows) -> str:
    """The same in words."""
    names = sorted({key.partition("/")[0] for key in rows if "/" in key})
    sizes = {name: sum(key.startswith(f"{name}/") and "right" in row for key, row in rows.items()) for name in names}
    found = [f"{name} at {count} sizes" for name, count in sizes.items()]
    return f"Which test images are right: {', '.join(found)}; show simulates the search." if found else ""
