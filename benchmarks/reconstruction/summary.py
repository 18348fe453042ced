"""What was measured, as tables and in a line."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import Any

_STEPS = {"blocks": "accuracy_distilled", "tuned": "accuracy_tuned"}


def means(rows: Mapping[str, Any]) -> dict[tuple[str, str, float], dict[str, float]]:
    """(network, row of its table, ratio) → accuracy in %: ``settled`` (BatchNorm re-estimated) and ``left`` in the end.

    Means over the sets of images; ``settled`` over those where it was measured.
    """
    found: dict[tuple[str, str, float], dict[str, list[float]]] = {}
    for key, row in rows.items():
        for where, settled, left in _read(key, row):
            cell = found.setdefault(where, {"settled": [], "left": []})
            cell["settled"] += [] if settled is None else [100 * settled]
            cell["left"].append(100 * left)
    return {where: {name: mean(each) for name, each in cell.items() if each} for where, cell in found.items()}


def _read(key: str, row: Any) -> list[tuple[tuple[str, str, float], float | None, float]]:
    """A row of results: where it belongs, accuracy with BatchNorm re-estimated if known, and in the end."""
    words = key.split()
    if words[0] == "pipeline":
        _, network, name, _, ratio = words
        return [((network, f"Torch-Pruning, {name}", float(ratio)), None, row["accuracy_recalibrated"])]
    if len(words) < 4 or words[0] == "single":
        return []
    network, name, _, ratio, *step = words
    if step:
        kind, _, epochs = step[0].partition(":")
        return [((network, f"`{name}`, {kind} for {epochs} epochs", float(ratio)), None, row[_STEPS[kind]])]
    return [((network, f"`{name}`", float(ratio)), row.get("accuracy_recalibrated"), row["accuracy_repaired"])]


def table(rows: Mapping[str, Any]) -> str:
    """Markdown: accuracy with BatchNorm re-estimated alone → in the end, network by network."""
    found = means(rows)
    lines: list[str] = []
    for network in dict.fromkeys(key[0] for key in found):
        ratios = sorted({key[2] for key in found if key[0] == network})
        whole = rows.get(f"original {network}", {}).get("accuracy")
        title = network if whole is None else f"{network}, {100 * whole:.1f} before"
        lines += [f"| {title} | {' | '.join(f'{100 * ratio:g} %' for ratio in ratios)} |"]
        lines += ["|---|" + "---:|" * len(ratios)]
        for name in dict.fromkeys(key[1] for key in found if key[0] == network):
            cells = [_cell(found.get((network, name, ratio), {})) for ratio in ratios]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    for key, row in rows.items():
        if key.startswith("ranks "):
            ranks = ", ".join(f"`{name}` {rank:+.2f}" for name, rank in sorted(row.items(), key=lambda each: -each[1]))
            lines += [f"Rank correlation with the loss of one filter, {key.removeprefix('ranks ')}: {ranks}.", ""]
    costs = [
        f"{key.removeprefix('cost ')} {row['forward passes']:.1f} (fitted to {row['samples']} of them)"
        for key, row in rows.items()
        if key.startswith("cost ")
    ]
    if costs:
        lines.append(f"Cost, in bare forward passes over the samples: {', '.join(costs)}.")
    return "\n".join(lines)


def _cell(cell: Mapping[str, float]) -> str:
    if "left" not in cell:
        return ""
    return f"{cell['settled']:.1f} → {cell['left']:.1f}" if "settled" in cell else f"{cell['left']:.1f}"


def summary(rows: Mapping[str, Any]) -> str:
    """What half of every layer costs with and without it, for the best criterion."""
    halves = {key: cell for key, cell in means(rows).items() if key[2] == 0.5 and "settled" in cell}
    best = {key[0]: max((k for k in halves if k[0] == key[0]), key=lambda k: halves[k]["left"]) for key in halves}
    return "; ".join(
        f"{network} at 50 %: {halves[key]['settled']:.1f} → {halves[key]['left']:.1f} % ({key[1]})"
        for network, key in best.items()
    )
