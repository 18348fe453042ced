"""Tables and words on what the whole of a command takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Rows = Mapping[str, Any]


def table(rows: Rows) -> str:
    """A Markdown table: per case what the command takes beside plain torch-pruning, and beside another checkout."""
    cases = {case: row for case, row in rows.items() if case != "machine"}
    beside = any("before" in row for row in cases.values())
    extra = " of before |" * beside
    lines = [
        f"| case | processor time, of plain torch-pruning's |{extra} by the clock, of plain | peak memory |",
        f"|---|---:|{'---:|' * beside}---:|---:|",
    ]
    for case, row in cases.items():
        before = f" {row['ours']['cpu_seconds'] / row['before']['cpu_seconds']:.2f} |" if "before" in row else " |"
        lines.append(
            f"| `{case}` | {_times(row, 'cpu_seconds')} |{before * beside} {_times(row, 'seconds')} | "
            f"{row['ours']['peak_bytes'] / 1e9:.2f} GB |"
        )
    return "\n".join(lines)


def summary(rows: Rows) -> str:
    """The same in words."""
    found = [f"{case} {_times(row, 'cpu_seconds')}" for case, row in rows.items() if case != "machine"]
    return "Processor time of plain torch-pruning's: " + ", ".join(found) + "." if found else ""


def _times(row: Mapping[str, Any], what: str) -> str:
    return f"{row['ours'][what] / row['plain'][what]:.1f} ×"
