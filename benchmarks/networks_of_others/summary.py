"""What the results say, in a sentence and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MARGIN = 0.005
"""Of the MACs: two shares that differ by less are the same, since both round."""
_ROUNDING = 0.1
"""Of a layer: by how much a share of few filters may miss what was asked."""


def share(row: Mapping[str, Any], side: str) -> float | None:
    """MACs left by one of the two, as a share of all."""
    macs = row.get(side, {}).get("macs")
    return macs / row["facts"]["macs"] if macs else None


def usable(row: Mapping[str, Any]) -> bool:
    """Whether torch-pruning's result is right, as far as can be said."""
    return row.get("theirs", {}).get("verdict") in ("right", "runs")


def overdone(row: Mapping[str, Any]) -> bool:
    """Whether torch-pruning took more of a layer than was asked, by more than rounding.

    It ranks the halves of a concatenation by themselves and takes each channel's twin of the other half along; what
    goes of every group of a GroupNorm, and heads that go, it rounds up.
    """
    return float(row.get("theirs", {}).get("took", 0.0)) > row.get("ratio", 1.0) + _ROUNDING


def worse(row: Mapping[str, Any]) -> bool:
    """Whether ours leaves more than torch-pruning's, where that is right, or fails."""
    ours, theirs = share(row, "ours"), share(row, "theirs")
    return usable(row) and theirs is not None and (ours is None or ours > theirs + _MARGIN)


def _compared(row: Mapping[str, Any]) -> str:
    """What torch-pruning leaves where that is less, how much of a layer it took, what ours leaves at its widths."""
    took, left = row["theirs"]["took"], share(row, "theirs")
    alike = f"; ours leaves {row['alike'] / row['facts']['macs']:.2f} at its widths" if "alike" in row else ""
    return f" (torch-pruning {left:.2f}, by taking up to {took:.2f} of a layer{alike})"


def failure(row: Mapping[str, Any]) -> str:
    """Why a network was refused, or stopped; empty where it was not."""
    found = row.get("ours", {}).get("failure")
    if found:
        return f"{found['step']}: {found['error']}"
    if row.get("reloaded", "bit for bit") != "bit for bit":
        return f"loading: {row['reloaded']}"
    return "" if "macs" in row.get("ours", {}) else str(row.get("stopped", "nothing was said"))


def rows_of(found: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The networks of the file."""
    return {name: row for name, row in found.items() if name != "machine"}


def summary(found: Mapping[str, Any]) -> str:
    """How many networks are done, how many leave no more than torch-pruning, which do."""
    rows = rows_of(found)
    if not rows:
        return ""
    failed = [name for name, row in rows.items() if failure(row)]
    more = [f"{name}{_compared(row)}" for name, row in rows.items() if worse(row) and name not in failed]
    wrong = sum(not usable(row) for row in rows.values())
    text = (
        f"{len(rows)} networks, {len(rows) - len(failed)} pruned, exported and loaded again; torch-pruning fails on or "
        f"gets wrong {wrong}; of the others ours leaves no more MACs in "
        f"{len(rows) - wrong - sum(map(worse, rows.values()))}"
    )
    text += f", and more in: {', '.join(more)}" if more else ""
    return f"{text}; failed: {', '.join(failed)}" if failed else text


def table(found: Mapping[str, Any]) -> str:
    """All networks in Markdown."""
    lines = ["| network | ours | torch-pruning | parity | seconds | what stays |", "|---|---|---|---|---|---|"]
    for name, row in rows_of(found).items():
        ours, theirs = share(row, "ours"), share(row, "theirs")
        their = row.get("theirs", {}).get("verdict", "–") + (" (took more)" if overdone(row) else "")
        left = f"**{ours:.2f}**" if ours and worse(row) else f"{ours:.2f}" if ours else "–"
        beside = f"{theirs:.2f}, {their}" if theirs else their
        parity = row.get("ours", {}).get("parity")
        seconds = row.get("ours", {}).get("seconds", row.get("wall_seconds"))
        stays = failure(row) or "; ".join(
            f"{len(layers)}: {reason}" for reason, layers in row.get("ours", {}).get("kept", {}).items()
        )
        lines.append(
            f"| {name} | {left} | {beside} | {'–' if parity is None else f'{parity:.0e}'} | {seconds} | "
            f"{stays.replace('|', '/')[:400]} |"
        )
    return "\n".join(lines)
