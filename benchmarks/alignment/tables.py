"""Tables of what ``python -m benchmarks.alignment`` has measured."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal

ALIGNMENTS: tuple[int | Literal["auto"], ...] = (1, 2, 4, 8, 16, 32, "auto")
BATCHES = (1, 8)


def tables(rows: Mapping[str, Any]) -> str:
    """Markdown: per network and alignment the MACs reduction, speed-up and efficiency; then all networks together."""
    parts = []
    if machine := rows.get("machine"):
        parts.append(
            f"{machine['processor']}, {machine['cores']} cores; onnxruntime {machine['versions']['onnxruntime']}; "
            f"target {machine['target_macs']:g} of the MACs."
        )
    networks = networks_of(rows)
    for batch in BATCHES:
        lines = [
            f"| network, batch {batch} | round to | MACs fewer | times faster, lowest–highest block | per turn "
            "| efficiency |",
            "|---|---:|---:|---|---|---:|",
        ]
        for name in networks:
            turns = [row for key, row in rows.items() if key.partition("/")[0] == name]
            lines += [_line(name, str(align), turns, batch) for align in ALIGNMENTS]
        parts += ["\n".join(lines), _summary(rows, batch)]
    return "\n\n".join(parts)


def _line(name: str, align: str, turns: Sequence[Mapping[str, Any]], batch: int) -> str:
    if "refused" in turns[0][align]:
        return f"| {name} | {align} | | out of reach | | |"
    each = [turn[align][f"batch {batch}"] for turn in turns]
    every = [ratio for blocks in each for ratio in blocks]
    fewer = turns[0][align]["macs_reduction"]
    per_turn = ", ".join(f"{statistics.median(blocks):.2f}" for blocks in each)
    return (
        f"| {name} | {align} | {fewer:.2f} | {statistics.median(every):.2f} ({min(every):.2f}–{max(every):.2f}) "
        f"| {per_turn} | {statistics.median(every) / fewer:.2f} |"
    )


def means(rows: Mapping[str, Any], batch: int) -> tuple[list[str], dict[str, tuple[float, float]]]:
    """Geometric means over the networks that every alignment can prune to the target.

    Returns:
        These networks, and alignment → how many times fewer MACs, how many times faster; nothing without networks.
    """
    networks = networks_of(rows)
    turns = {name: [row for key, row in rows.items() if key.partition("/")[0] == name] for name in networks}
    shared = [name for name in networks if not any("refused" in turns[name][0][str(align)] for align in ALIGNMENTS)]
    found = {}
    for align in map(str, ALIGNMENTS) if shared else ():
        fewer = statistics.geometric_mean([turns[name][0][align]["macs_reduction"] for name in shared])
        faster = statistics.geometric_mean(
            [
                statistics.median([ratio for turn in turns[name] for ratio in turn[align][f"batch {batch}"]])
                for name in shared
            ]
        )
        found[align] = fewer, faster
    return shared, found


def networks_of(rows: Mapping[str, Any]) -> list[str]:
    """In the order in which they were measured."""
    return list(dict.fromkeys(key.partition("/")[0] for key in rows if "/" in key))


def _summary(rows: Mapping[str, Any], batch: int) -> str:
    shared, found = means(rows, batch)
    if not shared:
        return ""
    lines = [
        f"| {len(shared)} networks, batch {batch}, geometric mean | MACs fewer | times faster | efficiency |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| round to {align} | {fewer:.2f} | {faster:.2f} | {faster / fewer:.2f} |"
        for align, (fewer, faster) in found.items()
    ]
    return "\n".join(lines)
