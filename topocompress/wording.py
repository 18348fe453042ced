"""A report in words: the rows and sentences that terminal, Markdown and page have in common."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from topocompress.results import Budget, Latency, Measurement, Report

_OPPOSITES = {"smaller": "larger", "faster": "slower"}


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One thing measured of every network of a run: the original, the finished one and, if there is one, INT8.

    Attributes:
        what: For the reader.
        path: Where it stands in a :class:`~topocompress.results.Measurement`, for example ``latency.0``.
        values: One per network, in the report's units; ``None`` where it was not measured.
        shown: The same as text.
        changes: Of each later network against the original, as text; empty where there is nothing to say.
    """

    what: str
    path: str
    values: tuple[float | None, ...]
    shown: tuple[str, ...]
    changes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Accuracy (or agreement) at one point of a run, or of a control.

    Attributes:
        name: For the reader.
        kind: ``original``, ``removed``, ``settled``, ``tuned``, ``quantized`` or ``control``.
        macs: Multiply-accumulates for one sample.
        values: In 0..1; several for a control with several seeds.
    """

    name: str
    kind: str
    macs: int
    values: tuple[float, ...]


def name(report: Report) -> str:
    """What to call the model: its source, of a path the last part."""
    source = str(report.model["source"])
    return source.rstrip("/").rpartition("/")[2] or source


def measure_of(report: Report) -> str:
    """What the report judges by: ``accuracy``, or ``agreement`` without labels."""
    return "accuracy" if report.data["labelled"] else "agreement"


def quantities(report: Report) -> list[Quantity]:
    """Everything measured, in the order in which to show it."""
    sides = [report.before, report.after]
    if report.quantized is not None:
        sides.append(report.quantized.measurement)
    found = [
        _sizes("Parameters", "parameters", count, sides),
        _sizes("MACs", "macs", count, sides),
        _sizes("ONNX file", "file_bytes", size, sides),
    ]
    if all(side.accuracy is not None for side in sides):
        shares = tuple(side.accuracy or 0.0 for side in sides)
        changes = tuple(f"{100 * (share - shares[0]):+.1f} points" for share in shares[1:])
        shown = tuple(percent(share) for share in shares)
        found.append(Quantity(what="Accuracy", path="accuracy", values=shares, shown=shown, changes=changes))
    agreements = tuple(side.agreement for side in sides)
    found.append(
        Quantity(
            what="Agreement with the original",
            path="agreement",
            values=agreements,
            shown=tuple(percent(share) for share in agreements),
            changes=("",) * (len(sides) - 1),
        )
    )
    for index, batch in enumerate(zip(*(side.latency for side in sides), strict=True)):
        medians = tuple(each.median_ms for each in batch)
        found.append(
            Quantity(
                what=f"Latency ms, batch {batch[0].batch}, median/p95",
                path=f"latency.{index}",
                values=medians,
                shown=tuple(_latency(each) for each in batch),
                changes=tuple(times(medians[0], later, "faster") for later in medians[1:]),
            )
        )
    return [*found, _sizes("Peak memory of inference", "peak_bytes", size, sides)]


def comparison_rows(report: Report) -> list[tuple[str, str, str, str]]:
    """(what, before, after, change) as text."""
    return [(each.what, each.shown[0], each.shown[1], each.changes[0]) for each in quantities(report)]


def comparison_table(report: Report) -> list[tuple[str, ...]]:
    """The same with a head, and with INT8 and its change beside it if there is one."""
    head = ("", "before", "after", "change", *(("INT8", "change") if report.quantized else ()))
    rows = [
        (each.what, each.shown[0], *(cell for pair in zip(each.shown[1:], each.changes, strict=True) for cell in pair))
        for each in quantities(report)
    ]
    return [head, *rows]


def stages(report: Report) -> list[Stage]:
    """Accuracy (or agreement) step by step, what is unknown left out, then the controls."""
    measure, removed, cut = measure_of(report), report.removed, report.after.macs
    found = [
        ("Original", "original", report.before.macs, getattr(report.before, measure)),
        ("After removal", "removed", cut, removed.get(measure)),
    ]
    if not report.data["stand_in"]:
        found.append(("BatchNorm re-estimated", "settled", cut, removed.get(f"{measure}_recalibrated")))
    if report.finetune:
        found.append(("Fine-tuned", "tuned", cut, getattr(report.after, measure)))
    if report.quantized is not None:
        other = report.quantized.measurement
        found.append(("INT8", "quantized", other.macs, getattr(other, measure)))
    steps = [Stage(name=n, kind=k, macs=m, values=(v,)) for n, k, m, v in found if v is not None]
    return steps + [
        Stage(name=f"Control: {each.criterion}", kind="control", macs=cut, values=each.accuracies)
        for each in report.controls
    ]


def stage_lines(report: Report) -> list[str]:
    """The data, then accuracy (or agreement) step by step: removal, re-estimation, tuning, and the controls."""
    measure, data, removed = measure_of(report), report.data, report.removed
    counts = data["samples"]
    spare = f"{counts['train']} for fine-tuning, " if data["labelled"] else ""
    uses = f"{counts['calibration']} samples to calibrate, {spare}{counts['evaluation']} held out"
    note = "" if data["stand_in"] or not data["note"] else f" ({data['note']})"  # a stand-in has a warning of its own
    lines = [
        f"Data: {data['source']}{note}; {uses}.",
        f"After removal: {measure} {percent(removed[measure])}; {_settled(report, measure)}.",
    ]
    if report.finetune:
        lines.append(
            f"After {report.finetune['epochs']} epochs of fine-tuning (best: {report.finetune['best_epoch']}): "
            f"{measure} {percent(getattr(report.after, measure))}."
        )
    if swapped := report.finetune.get("activation"):
        lines.append(
            f"Topological activations: {len(swapped['swapped'])} swapped, {len(swapped['left'])} left, "
            f"{len(swapped['folded_back'])} folded back to plain ones after fine-tuning."
        )
    for control in report.controls:
        each = ", ".join(percent(value) for value in control.accuracies)
        lines.append(
            f"Control, the same widths by {control.criterion}, BatchNorm re-estimated, no fine-tuning: accuracy {each}."
        )
    return lines


def _settled(report: Report, measure: str) -> str:
    if report.data["stand_in"]:
        return "BatchNorm statistics were left alone, as these images are not yours"
    return f"with BatchNorm statistics re-estimated: {percent(report.removed[f'{measure}_recalibrated'])}"


def headline(report: Report) -> str:
    """What was removed, in one sentence."""
    plan = report.plan
    share = plan["channels_removed"] / max(1, plan["channels_before"])
    dead = f", {plan['dead_removed']} of them dead" if plan["dead_removed"] else ""
    return f"Removed {plan['channels_removed']} of {plan['channels_before']} channels ({100 * share:.0f} %{dead})."


def verdict(report: Report) -> str:
    """The headline, what was gained, and what it cost, in one sentence."""
    macs = times(report.before.macs, report.after.macs).replace("smaller", "fewer").replace("larger", "more")
    gains = [f"{macs} MACs"] if macs else []
    for before, after in zip(report.before.latency[:1], report.after.latency[:1], strict=True):
        gains.append(f"{times(before.median_ms, after.median_ms, 'faster')} at batch {before.batch}")
    measure = measure_of(report)
    first, last = (getattr(side, measure) for side in (report.before, report.after))
    if measure == "accuracy" and first is not None and last is not None:
        gains.append(f"accuracy {percent(first)} → {percent(last)} ({100 * (last - first):+.1f} points)")
    elif report.after.agreement is not None:
        gains.append(f"agreement with the original {percent(report.after.agreement)}")
    return f"{headline(report).removesuffix('.')}: {', '.join(gains)}."


def parity(report: Report) -> str:
    """How closely the exported file follows the network, in one sentence."""
    check = report.export
    return (
        f"ONNX Runtime against PyTorch on {check.samples} samples: largest difference {check.max_abs:.2g} "
        f"({check.max_rel:.2g} of the largest output), same top-1 class on {percent(check.top1_agreement)}."
    )


def budget_line(budget: Budget) -> str:
    """What was to be kept to, and how it was found, in one sentence."""
    met = sum(probe.met for probe in budget.probes)
    judges = f", judged on {budget.samples} held-out samples" if budget.samples else ""
    return (
        f"{budget.option} {budget.limit:g}: {len(budget.probes)} tries, {met} of them within it{judges}; of those the "
        "one with the fewest MACs was taken."
    )


def command_line(report: Report) -> str:
    """The command that made the run; empty where it was made from Python."""
    words = report.environment.get("command")
    return f"topocompress {shlex.join(words)}" if words else ""


def machine(report: Report) -> str:
    """Where it was measured."""
    environment = report.environment
    return f"{environment.get('processor', 'unknown')}, {environment.get('cores')} cores"


def feeding(preprocessing: Mapping[str, Any]) -> str:
    """How images become inputs, in one sentence without an end; empty where that is not known."""
    if not preprocessing:
        return ""
    channels, height, width = preprocessing["input_shape"]
    short = preprocessing.get("resize")
    how = f"short side to {short} pixels, centre crop" if short else "resized"
    how += f" ({preprocessing.get('interpolation', 'bilinear')})"
    mean, std = (", ".join(f"{value:g}" for value in preprocessing[name]) for name in ("mean", "std"))
    return f"{channels} × {height} × {width}, {how}, scaled to 0..1, mean {mean}, standard deviation {std}"


def count(value: float | None) -> str:
    """A whole number, shortened."""
    if value is None:
        return "not measured"
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{value / scale:.2f} {unit}"
    return f"{value:g}"


def size(value: float | None) -> str:
    """Bytes, shortened."""
    if value is None:
        return "not measured"
    return f"{value / 1e6:.2f} MB" if value >= 1e6 else f"{value / 1e3:.1f} kB"


def percent(value: float | None) -> str:
    """A share in 0..1."""
    return "unknown" if value is None else f"{100 * value:.1f} %"


def times(before: float | None, after: float | None, word: str = "smaller") -> str:
    """How many times smaller (or faster), or its opposite; empty where one is not known."""
    if not before or not after:
        return ""
    if after > before:
        return f"{after / before:.2f}× {_OPPOSITES[word]}"
    return f"{before / after:.2f}× {word}"


def _latency(value: Latency) -> str:
    return f"{value.median_ms:.2f} / {value.p95_ms:.2f}"


def _sizes(what: str, path: str, show: Callable[[float | None], str], sides: list[Measurement]) -> Quantity:
    values = tuple(getattr(side, path) for side in sides)
    return Quantity(
        what=what,
        path=path,
        values=values,
        shown=tuple(show(value) for value in values),
        changes=tuple(times(values[0], later) for later in values[1:]),
    )
