"""What was measured, as a table and in a line."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import Any


def means(rows: Mapping[str, Any]) -> dict[tuple[str, str, float], tuple[float, float, float]]:
    """(network, criterion, ratio) → accuracy in % right after removal, with BatchNorm re-estimated, reconstructed."""
    found: dict[tuple[str, str, float], list[Any]] = {}
    for name, row in rows.items():
        if len(name.split()) == 4:
            network, criterion, _, ratio = name.split()
            found.setdefault((network, criterion, float(ratio)), []).append(row)
    stages = ("accuracy", "accuracy_recalibrated", "accuracy_repaired")
    return {key: tuple(100 * mean(row[stage] for row in each) for stage in stages) for key, each in found.items()}  # type: ignore[misc]


def table(rows: Mapping[str, Any]) -> str:
    """Markdown: accuracy with BatchNorm re-estimated → reconstructed, means over the sets of images."""
    found = means(rows)
    lines: list[str] = []
    for network in dict.fromkeys(key[0] for key in found):
        ratios = sorted({key[2] for key in found if key[0] == network})
        lines += [f"| {network} | {' | '.join(f'{100 * ratio:g} %' for ratio in ratios)} |"]
        lines += ["|---|" + "---:|" * len(ratios)]
        for criterion in dict.fromkeys(key[1] for key in found if key[0] == network):
            cells = [found.get((network, criterion, ratio)) for ratio in ratios]
            text = " | ".join("" if cell is None else f"{cell[1]:.1f} → {cell[2]:.1f}" for cell in cells)
            lines.append(f"| `{criterion}` | {text} |")
        lines.append("")
    costs = [
        f"{name.removeprefix('cost ')} {row['forward passes']:.1f}"
        for name, row in rows.items()
        if name.startswith("cost ")
    ]
    if costs:
        lines.append(f"Cost, in bare forward passes over the samples: {', '.join(costs)}.")
    return "\n".join(lines)


def summary(rows: Mapping[str, Any]) -> str:
    """What half of every layer costs with and without it, for the best criterion."""
    halves = {key: value for key, value in means(rows).items() if key[2] == 0.5}
    best = {key[0]: max((k for k in halves if k[0] == key[0]), key=lambda k: halves[k][2]) for key in halves}
    return "; ".join(
        f"{network} at 50 %: {halves[key][1]:.1f} → {halves[key][2]:.1f} % (`{key[1]}`)"
        for network, key in best.items()
    )
