"""Pictures of scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from topocompress.reporting.quantities import spoken, unit_of
from topocompress.runtime.files import atomic_file
from topocompress.runtime.outputs import check_picture
from topocompress.types import Comparison, Scores, Sweep


def plot_scores(path: Path, scores: Scores, thresholds: Sequence[float] = ()) -> None:
    """Draw the distribution of the scores: all filters as a histogram, each layer as a box.

    Args:
        path: File to write; its ending (.png, .svg or .pdf) says the format.
        scores: What to draw.
        thresholds: Values to mark with a line.

    Raises:
        OutputError: The ending is not supported, or the file cannot be written.
    """
    check_picture(path)
    names = list(scores.layers)
    values = [layer.values for layer in scores.layers.values()]
    figure = _figure((10, 3.2 + 0.22 * len(names)))
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 0.6 + 0.22 * len(names)))
    top.hist(np.concatenate(values), bins=60, color="#3b6ea5")
    top.set_ylabel("filters")
    top.set_title(f"{scores.criterion} of {sum(map(len, values))} filters (higher: {scores.higher})")
    bottom.boxplot(values, orientation="horizontal", widths=0.7, flierprops={"markersize": 2}, tick_labels=names)
    bottom.invert_yaxis()
    bottom.tick_params(axis="y", labelsize=7)
    bottom.set_xlabel(_axis_label(scores))
    for threshold in thresholds:
        for axes in (top, bottom):
            axes.axvline(threshold, color="#b5452c", linewidth=1, linestyle="--")
        where = {"xycoords": ("data", "axes fraction"), "xytext": (2, -9), "textcoords": "offset points"}
        top.annotate(f"{threshold:g}", (threshold, 1), fontsize=7, color="#b5452c", **where)
    _save(figure, path)


def plot_comparison(path: Path, comparison: Comparison) -> None:
    """Draw what each criterion leaves against the multiply-accumulates; bars are standard deviations over the seeds.

    Args:
        path: File to write; its ending (.png, .svg or .pdf) says the format.
        comparison: What to draw.

    Raises:
        OutputError: The ending is not supported, or the file cannot be written.
    """
    check_picture(path)
    figure = _figure((7, 4.5))
    axes = figure.subplots()
    for number, criterion in enumerate(comparison.criteria):
        cells = [comparison.of(criterion, ratio) for ratio in comparison.ratios]
        macs = [np.mean([cell.macs for cell in found]) / comparison.macs for found in cells]
        finals = [[unit_of(comparison.measure)[0] * cell.final for cell in found] for found in cells]
        means, bars = [np.mean(found) for found in finals], [np.std(found, ddof=len(found) > 1) for found in finals]
        marker = "osD^vP*X<>"[number % 10]
        axes.errorbar(macs, means, yerr=bars, label=criterion, marker=marker, markersize=4, capsize=3, linewidth=1.2)
    axes.axhline(
        unit_of(comparison.measure)[0] * comparison.original,
        color="#888888",
        linewidth=0.8,
        linestyle="--",
        label="original",
    )
    axes.set_xlabel("multiply-accumulates left, as a share")
    axes.set_ylabel(f"{spoken(comparison.measure)}{_in(comparison.measure)} ({_stage(comparison.finetune)})")
    axes.legend(fontsize=8)
    _save(figure, path)


def plot_sweep(path: Path, found: Sweep) -> None:
    """Draw accuracy against latency: every size, and a line through those that no other beats in both.

    Args:
        path: File to write; its ending (.png, .svg or .pdf) says the format.
        found: What to draw.

    Raises:
        OutputError: The ending is not supported, or the file cannot be written.
    """
    check_picture(path)
    figure = _figure((7, 4.5))
    axes = figure.subplots()
    front = found.front
    axes.plot(
        [point.latency for point in front],
        [unit_of(found.measure)[0] * point.quality for point in front],
        color="#3b6ea5",
        zorder=1,
    )
    for points, colour, label in (
        (front, "#3b6ea5", "Pareto front"),
        ([point for point in found.points if point not in front], "#aaaaaa", "slower and no better than another"),
    ):
        if points:
            axes.scatter(
                [point.latency for point in points],
                [unit_of(found.measure)[0] * point.quality for point in points],
                color=colour,
                label=label,
                s=28,
                zorder=2,
            )
    for point in found.points:
        text = "original" if point.target == 1 else f"{100 * point.macs:.0f} %"
        axes.annotate(
            text,
            (point.latency, unit_of(found.measure)[0] * point.quality),
            fontsize=7,
            xytext=(4, -9),
            textcoords="offset points",
        )
    axes.margins(0.08)
    axes.set_xlabel("latency of one sample in ONNX Runtime, as a share of the original's (labels: MACs left)")
    axes.set_ylabel(f"{spoken(found.measure)}{_in(found.measure)} ({_stage(found.finetune)})")
    axes.legend(fontsize=8)
    _save(figure, path)


def _stage(epochs: int) -> str:
    return f"after {epochs} epoch{'s' * (epochs != 1)} of fine-tuning" if epochs else "no fine-tuning"


def _figure(size: tuple[float, float]) -> Figure:
    """An empty figure, (width, height) in inches, without a window."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=150, format=path.suffix[1:].lower())


def _axis_label(scores: Scores) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in scores.settings.items())
    samples = f", N = {scores.samples}" if scores.samples else ""
    return f"score ({settings}{samples})" if settings or samples else "score"


def _in(measure: str) -> str:
    return " in %" if unit_of(measure)[1] else ""
