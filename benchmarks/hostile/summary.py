"""What the results say: counts, and whatever was not as it should be."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

OUTCOMES = (
    "as expected",
    "not as expected",
    "traceback",
    "hung",
    "over memory",
    "half-written",
    "executed",
    "lost",
    "raw",
)
"""What can come of an input; the first is as it should be."""


def summary(rows: Mapping[str, Any]) -> str:
    """Inputs and kills, and how many of them went wrong."""
    found = _inputs(rows)
    kills = _of(rows, "kill/")
    others = [row for kind in ("together/", "poison/") for row in _of(rows, kind).values()]
    parts = []
    if found:
        counts = sum(found.values(), Counter())
        parts.append(f"{counts.total()} hostile inputs, {counts.total() - counts[OUTCOMES[0]]} not as expected")
    if kills:
        wrong = sum(bool(row["different"]) for row in kills.values())
        parts.append(f"{len(kills)} killed runs, {wrong} that ended otherwise when they were continued")
    if others:
        parts.append(f"{len(others)} runs at once or with spoiled caches, {sum(map(_spoiled, others))} that went wrong")
    return "; ".join(parts)


def lines(rows: Mapping[str, Any]) -> Iterator[str]:
    """Tables in Markdown, and each trial that went wrong."""
    if found := _inputs(rows):
        yield f"| kind | cases | {' | '.join(OUTCOMES)} |"
        yield f"|---|{'---:|' * (1 + len(OUTCOMES))}"
        for kind, counts in found.items():
            yield f"| {kind} | {counts.total()} | {' | '.join(str(counts[name]) for name in OUTCOMES)} |"
        yield ""
    yield from _killed(rows)
    others = {kind: _of(rows, f"{kind}/") for kind in ("together", "poison")}
    if any(others.values()):
        yield "| | trials | went wrong | other files | left behind |"
        yield "|---|---:|---:|---:|---:|"
    for kind, trials in others.items():
        if trials:
            wrong = sum(map(_spoiled, trials.values()))
            different, left = (sum(bool(row[key]) for row in trials.values()) for key in ("different", "left_after"))
            yield f"| {kind} | {len(trials)} | {wrong} | {different} | {left} |"
    for name, row in rows.items():
        input_wrong = name.startswith("input/") and row["outcome"] != OUTCOMES[0]
        trial = name.startswith(("kill/", "together/", "poison/"))
        if input_wrong or (trial and (_bad(row) or _spoiled(row))):
            yield f"{name}: {row}"


def _killed(rows: Mapping[str, Any]) -> Iterator[str]:
    trials = _of(rows, "kill/")
    if not trials:
        return
    heads = ("kills", "did not end", "other files", "kept", "computed again", "left at once", "left after", "processes")
    yield f"| | {' | '.join(heads)} |"
    yield f"|---|{'---:|' * len(heads)}"
    groups: dict[str, list[Any]] = defaultdict(list)
    for name, row in trials.items():
        command, signal, _ = name.removeprefix("kill/").split("/")
        groups[f"{command}, {signal}"].append(row)
    for name, group in groups.items():
        numbers = (
            len(group),
            sum(row["ended"] == "not" for row in group),
            sum(bool(row["different"] or row["continued"]) for row in group),
            sum(row["kept"] for row in group),
            sum(row["again"] for row in group),
            *(sum(bool(row[key]) for row in group) for key in ("left", "left_after", "processes")),
        )
        yield f"| {name} | {' | '.join(map(str, numbers))} |"
    yield ""


def _inputs(rows: Mapping[str, Any]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for name, row in rows.items():
        if name.startswith("input/"):
            found[name.split("/")[1]][row["outcome"]] += 1
    return dict(found)


def _of(rows: Mapping[str, Any], start: str) -> dict[str, Any]:
    return {name: row for name, row in rows.items() if name.startswith(start)}


def _bad(row: Mapping[str, Any]) -> bool:
    """Whether a killed run did not end, left something where it could clean up, or was computed anew."""
    gentle = row.get("ended") not in (-9, None) and "moment" in row
    return bool(row.get("again") or row.get("processes") or row.get("ended") == "not" or (gentle and row["left"]))


def _spoiled(row: Mapping[str, Any]) -> bool:
    """Whether a run ended otherwise than one that nobody disturbed."""
    untold = "entries" in row and not row["told"]
    return bool(row["different"] or row["left_after"] or row.get("continued") or not row.get("right", True) or untold)
