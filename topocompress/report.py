""":class:`~topocompress.types.Report` → JSON and Markdown, and the rows that the terminal shows too."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from topocompress import environment
from topocompress.benching import Bench
from topocompress.files import atomic_file
from topocompress.results import Latency, Report
from topocompress.types import Scores

_OPPOSITES = {"smaller": "larger", "faster": "slower"}


def comparison_rows(report: Report) -> list[tuple[str, str, str, str]]:
    """(what, before, after, change) as text, for terminal and Markdown alike."""
    before, after = report.before, report.after

    def row(what: str, show: Callable[[Any], str], name: str) -> tuple[str, str, str, str]:
        first, second = getattr(before, name), getattr(after, name)
        return what, show(first), show(second), _times(first, second)

    rows = [
        row("Parameters", _count, "parameters"),
        row("MACs", _count, "macs"),
        row("ONNX file", _bytes, "file_bytes"),
    ]
    if before.accuracy is not None and after.accuracy is not None:
        change = f"{100 * (after.accuracy - before.accuracy):+.1f} points"
        rows.append(("Accuracy", _percent(before.accuracy), _percent(after.accuracy), change))
    rows.append(("Agreement with the original", _percent(before.agreement), _percent(after.agreement), ""))
    for first, second in zip(before.latency, after.latency, strict=True):
        what = f"Latency ms, batch {first.batch}, median/p95"
        rows.append((what, _latency(first), _latency(second), _times(first.median_ms, second.median_ms, "faster")))
    rows.append(row("Peak memory of inference", _bytes, "peak_bytes"))
    return rows


def stage_lines(report: Report) -> list[str]:
    """The data, then accuracy (or agreement) step by step: removal, re-estimation, tuning, and the controls."""
    measure = "accuracy" if report.data["labelled"] else "agreement"
    data, removed = report.data, report.removed
    counts = data["samples"]
    spare = f"{counts['train']} for fine-tuning, " if data["labelled"] else ""
    uses = f"{counts['calibration']} samples to calibrate, {spare}{counts['evaluation']} held out"
    note = "" if data["stand_in"] or not data["note"] else f" ({data['note']})"  # a stand-in has a warning of its own
    lines = [
        f"Data: {data['source']}{note}; {uses}.",
        f"After removal: {measure} {_percent(removed[measure])}; {_settled(report, measure)}.",
    ]
    if report.finetune:
        lines.append(
            f"After {report.finetune['epochs']} epochs of fine-tuning (best: {report.finetune['best_epoch']}): "
            f"{measure} {_percent(getattr(report.after, measure))}."
        )
    if swapped := report.finetune.get("activation"):
        lines.append(
            f"Topological activations: {len(swapped['swapped'])} swapped, {len(swapped['left'])} left, "
            f"{len(swapped['folded_back'])} folded back to plain ones after fine-tuning."
        )
    for control in report.controls:
        each = ", ".join(_percent(value) for value in control.accuracies)
        lines.append(
            f"Control, the same widths by {control.criterion}, BatchNorm re-estimated, no fine-tuning: accuracy {each}."
        )
    return lines


def _settled(report: Report, measure: str) -> str:
    if report.data["stand_in"]:
        return "BatchNorm statistics were left alone, as these images are not yours"
    return f"with BatchNorm statistics re-estimated: {_percent(report.removed[f'{measure}_recalibrated'])}"


def headline(report: Report) -> str:
    """What was removed, in one sentence."""
    plan = report.plan
    share = plan["channels_removed"] / max(1, plan["channels_before"])
    dead = f", {plan['dead_removed']} of them dead" if plan["dead_removed"] else ""
    return f"Removed {plan['channels_removed']} of {plan['channels_before']} channels ({100 * share:.0f} %{dead})."


def to_markdown(report: Report) -> str:
    """The report as Markdown."""
    environment = report.environment
    lines = [
        f"# {report.model['source']}, pruned by {report.plan['criterion']}",
        "",
        headline(report),
        "",
        "| | before | after | change |",
        "|---|---:|---:|---:|",
        *(f"| {' | '.join(row)} |" for row in comparison_rows(report)),
        "",
        *(f"- {line}" for line in stage_lines(report)),
        f"- ONNX Runtime against PyTorch on {report.export.samples} samples: largest difference "
        f"{report.export.max_abs:.2g} ({report.export.max_rel:.2g} of the largest output), same top-1 class on "
        f"{_percent(report.export.top1_agreement)}.",
        "",
    ]
    if report.warnings:
        lines += ["## Read this", "", *(f"- {warning}" for warning in report.warnings), ""]
    if report.remedies:
        lines += ["## If that is too much lost", ""]
        lines += [f"{n}. {what}: `{command}`" for n, (what, command) in enumerate(report.remedies, 1)] + [""]
    lines += [
        "## Channels",
        "",
        "| layer | before | after | asked for | dead | kept because |",
        "|---|---:|---:|---:|---:|---|",
    ]
    lines += [
        f"| {row['root']} | {row['before']} | {row['after']} | {row['asked']} | {row['dead']} | {row['kept_because']} |"
        for row in report.plan["groups"]
    ]
    versions = ", ".join(f"{name} {version}" for name, version in environment.get("versions", {}).items())
    lines += [
        "",
        f"MACs count convolutions, linear layers and attention. Measured on {environment.get('processor', 'unknown')}, "
        f"{environment.get('cores')} cores, both files in turn in one run; {versions}; seed {environment.get('seed')}.",
        "",
    ]
    return "\n".join(lines)


def write_report(directory: Path, report: Report) -> None:
    """Write ``report.json`` and ``report.md`` into a directory."""
    text = json.dumps(asdict(report), indent=1, allow_nan=False)
    (directory / "report.json").write_text(text + "\n", encoding="utf-8")
    (directory / "report.md").write_text(to_markdown(report), encoding="utf-8")


def write_bench(path: Path, found: Bench) -> None:
    """Write everything that timing ONNX files against each other has found, with machine and versions.

    Raises:
        OutputError: The file cannot be written.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(
            json.dumps({**asdict(found), "environment": environment.describe()}, indent=1) + "\n", encoding="utf-8"
        )


def write_scores(path: Path, scores: Scores) -> None:
    """Write ``scores.json``: every filter's score, its parts, and whether it is dead.

    Raises:
        OutputError: The file cannot be written.
    """
    content = {
        "criterion": scores.criterion,
        "higher": scores.higher,
        "settings": dict(scores.settings),
        "samples": scores.samples,
        "model": scores.model,
        "layers": {
            name: {
                "scores": layer.values.tolist(),
                **{part: values.tolist() for part, values in layer.parts.items()},
                "dead": layer.dead.tolist(),
            }
            for name, layer in scores.layers.items()
        },
    }
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _count(value: int) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return str(value)


def _bytes(value: int | None) -> str:
    if value is None:
        return "not measured"
    return f"{value / 1e6:.2f} MB" if value >= 1e6 else f"{value / 1e3:.1f} kB"


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.1f} %"


def _latency(value: Latency) -> str:
    return f"{value.median_ms:.2f} / {value.p95_ms:.2f}"


def _times(before: float | None, after: float | None, word: str = "smaller") -> str:
    if not before or not after:
        return ""
    if after > before:
        return f"{after / before:.2f}× {_OPPOSITES[word]}"
    return f"{before / after:.2f}× {word}"
