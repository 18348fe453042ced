"""Tables and words on what samples and maps cost and change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Rows = Mapping[str, Any]
OTHERS = "other images"
"""As many as the yardstick has, and nothing of them was compiled or read for the first time."""


def table(rows: Rows) -> str:
    """A Markdown table for each network."""
    lines: list[str] = []
    for network in dict.fromkeys(name.split(" ", 1)[0] for name in rows if name != "machine"):
        own = {name.split(" ", 1)[1]: row for name, row in rows.items() if name.startswith(f"{network} ")}
        lines += [
            f"\n**{network}**\n",
            "| sampled | rank correlation | same filters, a quarter | same filters, above | left | processor time |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for way, row in sorted(own.items(), key=lambda item: -item[1]["rank"]):
            above = f"{row['overlap_above']:.0%} of {row['above']}" if "overlap_above" in row else f"of {row['above']}"
            cost = row["cpu_seconds"] / own[OTHERS]["cpu_seconds"] if OTHERS in own else float("nan")
            lines.append(
                f"| {way} | {row['rank']:.2f} | {row['overlap']:.0%} | {above} | {100 * row['left']:.1f} | {cost:.2f} |"
            )
    return "\n".join(lines)


def summary(rows: Rows) -> str:
    """The same in words."""
    found = [
        f"{name}: rank correlation {row['rank']:.2f}, {100 * row['left']:.1f} left"
        for name, row in rows.items()
        if name != "machine"
    ]
    return "; ".join(found) + "." if found else ""
