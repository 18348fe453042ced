"""What a report compares: quantities before and after, accuracy step by step, and how numbers are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from topocompress.types import Latency, Measurement, Report, in_fewer_bits

WHAT = {
    "accuracy": "Accuracy",
    "agreement": "Agreement with the original",
    "explained_variation": "Explained variation of the outputs",
    "metric": "Metric",
}
"""What a report may judge by, as it begins a sentence or a row."""
SHARES = ("accuracy", "agreement", "explained_variation")
"""Those that are shares in 0..1; the user's metric has a unit of its own."""

_OPPOSITES = {"smaller": "larger", "faster": "slower"}


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One thing measured of every network of a run: the original, the finished one, and it in fewer bits.

    Attributes:
        what: For the reader.
        path: Where it stands in a :class:`~topocompress.types.Measurement`, for example ``latency.0``.
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
    """What is judged by (accuracy, or without labels how like the original) at one point of a run, or of a control.

    Attributes:
        name: For the reader.
        kind: ``original``, ``removed``, ``settled``, ``repaired``, ``distilled``, ``tuned``, ``int8``, ``fp16`` or
            ``control``.
        macs: Multiply-accumulates for one sample.
        values: In 0..1; several for a control with several seeds.
    """

    name: str
    kind: str
    macs: int
    values: tuple[float, ...]


def measure_of(report: Report) -> str:
    """What the report judges by: ``accuracy``, or without labels ``agreement`` or ``explained_variation``."""
    if report.data.get("metric"):
        return "metric"
    return "accuracy" if report.data["labelled"] else report.data.get("measure", "agreement")


def whose(report: Report) -> str:
    """What to say behind a figure that was measured on images which the network was trained on; empty behind others."""
    return " on training images" if report.data.get("trained_on") else ""


def in_words(report: Report) -> str:
    """What the report judges by, in words; the user's metric by its name."""
    return str(report.data.get("metric") or spoken(measure_of(report)))


def amount(measure: str, value: float | None) -> str:
    """A value of a measure as text: a share of 100 %, or the user's metric in its own unit."""
    return ("unknown" if value is None else f"{value:.4g}") if measure not in SHARES else percent(value)


def unit_of(measure: str) -> tuple[float, str]:
    """What values of a measure are multiplied by to be shown, and what stands behind them."""
    return (100.0, " %") if measure in SHARES else (1.0, "")


def spoken(measure: str) -> str:
    """A measure in words; a metric of the user's as it is called."""
    return measure.replace("_", " ") if measure in WHAT else measure


def quantities(report: Report) -> list[Quantity]:
    """Everything measured, in the order in which to show it."""
    sides = [report.before, report.after, *(each.measurement for each in in_fewer_bits(report).values())]
    found = [
        _sizes("Parameters", "parameters", count, sides),
        _sizes("MACs", "macs", count, sides),
        _sizes("ONNX file", "file_bytes", size, sides),
    ]
    if all(side.metric is not None for side in sides):
        each = tuple(side.metric or 0.0 for side in sides)
        moved = tuple(f"{value - each[0]:+.3g}" for value in each[1:])
        texts = tuple(amount("metric", value) for value in each)
        what = f"{in_words(report)}{whose(report)}"
        found.append(Quantity(what=what, path="metric", values=each, shown=texts, changes=moved))
    if all(side.accuracy is not None for side in sides):
        shares = tuple(side.accuracy or 0.0 for side in sides)
        changes = tuple(f"{100 * (share - shares[0]):+.1f} points" for share in shares[1:])
        shown = tuple(percent(share) for share in shares)
        what = f"{WHAT['accuracy']}{whose(report)}"
        found.append(Quantity(what=what, path="accuracy", values=shares, shown=shown, changes=changes))
    found.append(_likeness("agreement", WHAT["agreement"], [side.agreement for side in sides]))
    explained = [side.explained_variation for side in sides]
    if any(share is not None for share in explained):
        found[-1] = _likeness("explained_variation", WHAT["explained_variation"], explained)
    found += [
        _likeness(f"outputs.{name}", f"... of {name}", [side.outputs.get(name) for side in sides])
        for name in report.after.outputs
    ]
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
    """The same with a head, and with each of the files in fewer bits and its change beside it."""
    head = ("", "before", "after", "change", *(cell for kind in in_fewer_bits(report) for cell in (kind, "change")))
    rows = [
        (each.what, each.shown[0], *(cell for pair in zip(each.shown[1:], each.changes, strict=True) for cell in pair))
        for each in quantities(report)
    ]
    return [head, *rows]


def stages(report: Report) -> list[Stage]:
    """What is judged by, step by step, what is unknown left out, then the controls."""
    measure, removed, cut = measure_of(report), report.removed, report.after.macs
    found = [
        ("Original", "original", report.before.macs, getattr(report.before, measure)),
        ("After removal", "removed", cut, removed.get(measure)),
    ]
    if (how := removed.get("statistics", "re-estimated")) != "kept":
        found.append((f"BatchNorm {how}", "settled", cut, removed.get(f"{measure}_recalibrated")))
    if removed.get("refitted"):
        found.append(("Reconstructed", "repaired", cut, removed.get(f"{measure}_repaired")))
    if removed.get("distilled_epochs"):
        found.append(("Blocks distilled", "distilled", cut, removed.get(f"{measure}_distilled")))
    if report.finetune:
        found.append(("Fine-tuned", "tuned", cut, getattr(report.after, measure)))
    for kind, each in in_fewer_bits(report).items():
        found.append((kind, kind.lower(), each.measurement.macs, getattr(each.measurement, measure)))
    steps = [Stage(name=n, kind=k, macs=m, values=(v,)) for n, k, m, v in found if v is not None]
    return steps + [
        Stage(name=f"Control: {each.criterion}", kind="control", macs=cut, values=each.accuracies)
        for each in report.controls
    ]


def chance(report: Report) -> float | None:
    """Accuracy of a guess among equally likely classes, in 0..1; ``None`` where accuracy is not what is judged by."""
    classes = report.data.get("classes", 0)
    return 1 / classes if measure_of(report) == "accuracy" and classes > 1 else None


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


def _likeness(path: str, what: str, shares: list[float | None]) -> Quantity:
    return Quantity(
        what=what,
        path=path,
        values=tuple(shares),
        shown=tuple(percent(share) for share in shares),
        changes=("",) * (len(shares) - 1),
    )


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
