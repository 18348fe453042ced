"""Tables of what ``python -m benchmarks.topology`` has measured."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

GB = 1e9


def tables(rows: Mapping[str, Any], engines: Iterable[str]) -> str:
    """Markdown."""
    parts = [_machine(rows), _loop(rows), _engines(rows, engines), _score(rows), _memory(rows), _growth(rows)]
    return "\n\n".join(part for part in parts if part)


def _machine(rows: Mapping[str, Any]) -> str:
    facts = rows.get("machine")
    if not facts:
        return ""
    versions = facts["versions"]
    return (
        f"{facts['processor']}, {facts['cores']} cores; Python {facts['python']}, torch {versions['torch']}, "
        f"giotto-ph {versions.get('giotto-ph', 'absent')}, ripser {versions.get('ripser', 'absent')}."
    )


def _under(rows: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): row for name, row in rows.items() if name.startswith(prefix)}


def loop_ratio(rows: Mapping[str, Any]) -> float:
    """How many times as long the loop over all filters takes."""
    theirs, ours = (sum(row[key] for row in _under(rows, "loop/").values()) for key in ("loop_s", "ours_s"))
    return float(theirs / ours)


def engine_ratios(rows: Mapping[str, Any], engine: str) -> list[float]:
    """How many times as long another engine takes, filter by filter."""
    return [row[engine] / row["topocompress"] for row in _filters(rows)]


def score_ratios(rows: Mapping[str, Any], maps: str, unit: str = "s") -> list[float]:
    """How many bare forward passes ``score`` takes, from the quickest run to the slowest.

    Args:
        rows: What has been measured.
        maps: ``exact`` or ``map size 16``.
        unit: ``s`` by the clock, ``cpu_s`` of the processors.
    """
    runs = _under(rows, f"score/{maps}/").values()
    return sorted(run[f"score_{unit}"] / statistics.mean(run[f"forward_{unit}"]) for run in runs)


def _filters(rows: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for layer in _under(rows, "engines/").values() for row in layer]


def _loop(rows: Mapping[str, Any]) -> str:
    layers = _under(rows, "loop/")
    if not layers:
        return ""
    lines = [
        "| inner layer | filters | numbers per map | times faster | Betti numbers that differ |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, row in layers.items():
        ratio = row["loop_s"] / row["ours_s"]
        lines.append(f"| {name} | {row['filters']} | {row['features']} | {ratio:.0f} | {len(row['different'])} |")
    different = [each for row in layers.values() for each in row["different"]]
    filters = sum(row["filters"] for row in layers.values())
    lines.append(f"| all | {filters} | | {loop_ratio(rows):.1f} | {len(different)} |")
    if different:
        right = sum(list(each["ours"]) == list(each["exact"]) for each in different)
        lines.append(f"\nOf the {len(different)} that differ, topocompress has {right} as exact distances give them.")
    return "\n".join(lines)


def _engines(rows: Mapping[str, Any], engines: Iterable[str]) -> str:
    found = _filters(rows)
    if not found:
        return ""
    lines = ["| engine, one core | times slower, median | range |", "|---|---:|---:|"]
    for name in engines:
        ratios = engine_ratios(rows, name)
        lines.append(f"| {name} | {statistics.median(ratios):.1f} | {min(ratios):.1f}–{max(ratios):.1f} |")
    same = sum(row["same"] for row in found)
    return "\n".join([*lines, f"\n{same} of {len(found)} filters: the same Betti numbers from all engines."])


def _score(rows: Mapping[str, Any]) -> str:
    lines = []
    for name in ("exact", "map size 16"):
        runs = list(_under(rows, f"score/{name}/").values())
        if runs:
            ratios, work = score_ratios(rows, name), score_ratios(rows, name, "cpu_s")
            held = runs[0]["peak_cloud_bytes"] / GB
            each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
            parts = [run["until_s"]["running samples"] / run["score_s"] for run in runs]
            lines.append(
                f"| {name} | {statistics.median(work):.2f} | {statistics.median(ratios):.2f} | {each} "
                f"| {statistics.median(parts):.0%} "
                f"| {runs[0]['passes']} | {held:.1f} GB |"
            )
    if not lines:
        return ""
    head = [
        "| maps | processor time / bare forward passes' | by the clock | runs | of it capture | passes | clouds held |",
        "|---|---:|---:|---|---:|---:|---:|",
    ]
    return "\n".join([*head, *lines])


def _memory(rows: Mapping[str, Any]) -> str:
    found = _under(rows, "memory/")
    if len(found) < 2:
        return ""
    forward, score = found["forward"]["peak_bytes"], found["score"]["peak_bytes"]
    run = json.loads(found["score"]["said"])
    clouds = run["peak_cloud_bytes"]
    return (
        f"ResNet-50 within `--memory 2GB`: {run['passes']} passes, at most {clouds / GB:.2f} GB of clouds at a time. "
        f"All processes and all clouds together peak at most {(score + clouds - forward) / GB:.2f} GB above a process "
        f"that only runs the forward pass ({forward / GB:.2f} GB); clouds that a process has mapped are counted twice."
    )


def _growth(rows: Mapping[str, Any]) -> str:
    found = _under(rows, "growth/")
    if not found:
        return ""
    lines = [
        "| numbers per map | stage | cost grows with N to the power | share of the time at N = 1,000 |",
        "|---:|---|---:|---:|",
    ]
    for layer in dict.fromkeys(name.partition("/")[0] for name in found):
        series = {int(samples): row for samples, row in _under(found, f"{layer}/").items()}
        whole = sum(series[1000][stage] for stage in ("product", "graph", "betti"))
        for stage in ("product", "graph", "betti"):
            slope = np.polyfit(np.log(list(series)), np.log([row[stage] for row in series.values()]), 1)[0]
            share = series[1000][stage] / whole
            lines.append(f"| {series[1000]['features']} | {stage} | {slope:.2f} | {share:.0%} |")
        if "peak" in rows:
            rate = 1000 * 1000 / 2 * series[1000]["features"] / series[1000]["product"] / rows["peak"]
            lines.append(f"| {series[1000]['features']} | product, share of the core's own peak rate | | {rate:.0%} |")
    processes = _under(rows, "processes/")
    if processes:
        counts = sorted({int(name.split("/")[0]) for name in processes})
        sizes = sorted({int(name.split("/")[1]) for name in processes})
        slope = np.polyfit(np.log(sizes), np.log([processes[f"{counts[0]}/{size}"] for size in sizes]), 1)[0]
        gain = processes[f"{counts[0]}/{sizes[-1]}"] / processes[f"{counts[-1]}/{sizes[-1]}"]
        lines.append(f"\nCost grows with the number of filters to the power {slope:.2f};")
        lines[-1] += f" {counts[-1]} processes are {gain:.2f} times as fast as one."
    return "\n".join(lines)
