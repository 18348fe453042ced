"""Tables and words on budgets."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.budgets.simulation import FEW, FEW_LIMITS, FEW_SPLITS, LIMITS, SIZES, Right, simulated
from topocompress.planning.confidence import least_samples

Rows = Mapping[str, Any]


def table(rows: Rows) -> str:
    """What the searches find, as Markdown: with enough images to judge apart, then with few."""
    names = sorted({key.partition("/")[0] for key in rows if "/" in key})
    return "\n\n".join([_enough(rows, names), _few(rows, names)])


def _sizes(rows: Rows, name: str) -> dict[float, Right]:
    """Share of the multiply-accumulates → which images are right."""
    return {
        row["macs"]: np.unpackbits(np.frombuffer(bytes.fromhex(row["right"]), np.uint8))[: row["images"]]
        for key, row in rows.items()
        if key.startswith(f"{name}/") and "right" in row
    }


def _few(rows: Rows, names: list[str]) -> str:
    lines = [
        "| network | budget | judges, held out too | really exceeded | MACs left | measured below real, points |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, limit, count in itertools.product(names, FEW_LIMITS, FEW):
        if count < least_samples(limit / 100):  # refused before the work
            continue
        found = simulated(_sizes(rows, name), limit, count, apart=False, splits=FEW_SPLITS)
        lines.append(
            f"| {name} | {limit:g} | {count:,} | {found.exceeded:.1%} | {found.macs} | {found.understated:.2f} |"
        )
    return "\n".join(lines)


def _enough(rows: Rows, names: list[str]) -> str:
    lines = [
        "| network | budget | judges | really exceeded | MACs left | exceeded without bound | MACs left |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in names:
        sizes = _sizes(rows, name)
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
