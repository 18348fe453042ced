"""Pictures of scores, comparisons and sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from topocompress.reporting import style
from topocompress.reporting.quantities import amount, spoken, unit_of
from topocompress.reporting.verdicts import by_chance, rows, spread
from topocompress.runtime.outputs import check_picture
from topocompress.types import Comparison, Point, Scores, Sweep

_CUT = 0.75
"""Bars begin at 0, unless the lowest reaches this share of the highest: then the axis is cut, and says so."""
_MARKERS = "osD^vP*X<>"
_NEAR = 1.5
"""Thresholds are drawn within this share of the scores' range, about its middle: others would squeeze the bars."""
_ASIDE: dict[str, Any] = {"fontsize": 9, "fontweight": "normal", "color": style.REMOVED, "pad": 18}


def plot_scores(path: Path, scores: Scores, thresholds: Sequence[float] = ()) -> None:
    """Draw the distribution of the scores: all filters as a histogram, each layer as a box.

    Args:
        path: File to write; its ending (.png, .svg or .pdf) says the format.
        scores: What to draw.
        thresholds: Values to mark with a line; those far from all scores are named instead.

    Raises:
        OutputError: The ending is not supported, or the file cannot be written.
    """
    check_picture(path)
    names = list(scores.layers)
    values = [layer.values for layer in scores.layers.values()]
    with style.styled():
        figure = style.figure((10, 3.4 + 0.27 * len(names)))
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 0.6 + 0.27 * len(names)))
        top.hist(np.concatenate(values), bins=60, color=style.KEPT, edgecolor=style.GROUND, linewidth=0.5)
        top.set_ylabel("filters")
        top.set_title(f"{scores.criterion} of {sum(map(len, values))} filters (higher: {scores.higher})", pad=18)
        bottom.boxplot(
            values,
            orientation="horizontal",
            widths=0.6,
            tick_labels=names,
            patch_artist=True,
            boxprops={"facecolor": style.KEPT, "edgecolor": style.KEPT},
            medianprops={"color": style.INK, "linewidth": 1.5},
            whiskerprops={"color": style.BEFORE},
            capprops={"color": style.BEFORE},
            flierprops={"marker": "o", "markersize": 2.5, "markerfacecolor": style.BEFORE, "markeredgewidth": 0},
        )
        bottom.invert_yaxis()
        style.bare(bottom, "y")
        bottom.set_xlabel(_axis_label(scores))
        low, high = (float(find(list(map(find, values)))) for find in (min, max))
        span = _NEAR * ((high - low) or abs(high) or 1.0)
        near = [threshold for threshold in thresholds if abs(2 * threshold - low - high) <= span]
        for threshold in near:
            for axes in (top, bottom):
                axes.axvline(threshold, color=style.REMOVED, linewidth=1.2, linestyle="--")
            where = {"xycoords": ("data", "axes fraction"), "xytext": (0, 4), "textcoords": "offset points"}
            top.annotate(f"{threshold:g}", (threshold, 1), fontsize=9, ha="center", color=style.REMOVED, **where)
        top.set_title(_beyond([each for each in thresholds if each not in near], high), loc="right", **_ASIDE)
        style.save(figure, path)


def plot_comparison(path: Path, comparison: Comparison) -> None:
    """Draw what each criterion leaves: at one ratio bars, the best on top; at several against the MACs that are left.

    Lines at the marks, or at the ends of the bars, are standard deviations over the seeds.

    Args:
        path: File to write; its ending (.png, .svg or .pdf) says the format.
        comparison: What to draw.

    Raises:
        OutputError: The ending is not supported, or the file cannot be written.
    """
    check_picture(path)
    with style.styled():
        one = len(comparison.ratios) == 1
        figure = style.figure((8, 1.5 + 0.42 * len(comparison.criteria)) if one else (8, 4.6))
        axes = figure.subplots()
        (_bars if one else _curves)(axes, comparison)
        style.save(figure, path)


def _bars(axes: Axes, comparison: Comparison) -> None:
    factor, unit = unit_of(comparison.measure)
    stage = "tuned" if comparison.finetune else "settled"
    found = [(row["criterion"], *row[stage]) for row in rows(comparison)]
    names, means, errors = (list(each) for each in zip(*found, strict=True))
    finals = [factor * mean for mean in means]
    mark, margin = factor * comparison.original, factor * max(errors)
    low, high = min(*finals, mark) - margin, max(*finals, mark) + margin
    span = max(high - low, 0.01 * abs(high), 1e-9)  # of equal ones too
    start = low - 0.25 * span if low > _CUT * high or low < 0 else 0.0
    axes.barh(
        names,
        [value - start for value in finals],
        left=start,
        height=0.62,
        color=[style.BEFORE if by_chance(name) else style.AFTER for name in names],
        xerr=[factor * error for error in errors],
        error_kw={"ecolor": style.INK, "elinewidth": 1.2, "capsize": 3},
    )
    shift: dict[str, Any] = {"textcoords": "offset points", "annotation_clip": False}
    several = len(comparison.of(names[0], comparison.ratios[0])) > 1
    for place, (mean, error) in enumerate(zip(means, errors, strict=True)):
        text = amount(comparison.measure, mean)
        if several:
            text = f"{text.removesuffix(unit) if unit else text} ± {factor * error:{'.1f' if unit else '.2g'}}{unit}"
        axes.annotate(text, (1, place), xycoords=("axes fraction", "data"), xytext=(8, 0), va="center", **shift)
    axes.axvline(mark, color=style.SOFT, linewidth=1.2, linestyle="--")
    shift |= {"xycoords": ("data", "axes fraction"), "ha": "right", "color": style.SOFT, "fontsize": 9}
    text = f"original {amount(comparison.measure, comparison.original)}"
    axes.annotate(text, (mark, 1), xytext=(0, 4), **shift)
    axes.set_title(f"{100 * comparison.ratios[0]:g} % of the channels of every layer removed", pad=20)
    axes.set_xlim(start, high + 0.03 * span)
    axes.invert_yaxis()
    style.bare(axes, "y")
    cut = "; the axis does not begin at 0" if start else ""
    axes.set_xlabel(f"{_measured(comparison)}{cut}")


def _curves(axes: Axes, comparison: Comparison) -> None:
    factor, _ = unit_of(comparison.measure)
    last = [row["criterion"] for row in rows(comparison) if row["ratio"] == max(comparison.ratios)]
    for number, criterion in enumerate(sorted(comparison.criteria, key=last.index)):  # the legend is in their order
        cells = [comparison.of(criterion, ratio) for ratio in comparison.ratios]
        macs = [100 * np.mean([cell.macs for cell in found]) / comparison.macs for found in cells]
        means, errors = zip(*(spread([factor * cell.final for cell in found]) for found in cells), strict=True)
        look: dict[str, Any] = {"color": style.BEFORE, "linestyle": "--", "zorder": 1.5} if by_chance(criterion) else {}
        axes.errorbar(
            macs,
            means,
            yerr=errors,
            label=criterion,
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=5,
            capsize=3,
            linewidth=1.6,
            **look,
        )
    axes.axhline(factor * comparison.original, color=style.SOFT, linewidth=1, linestyle=":", label="original")
    axes.set_xlabel("MACs left, % of the original")
    axes.set_ylabel(_measured(comparison))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def plot_sweep(path: Path, found: Sweep) -> None:
    """Draw accuracy against latency: every size, and a line through those that no other beats in both.

    Args:
        path: File to write; its ending (.png, .svg or .pdf) says the format.
        found: What to draw.

    Raises:
        OutputError: The ending is not supported, or the file cannot be written.
    """
    check_picture(path)
    factor, front = unit_of(found.measure)[0], found.front

    def places(points: Sequence[Point]) -> tuple[list[float], list[float]]:
        return [100 * point.latency for point in points], [factor * point.quality for point in points]

    with style.styled():
        figure = style.figure((8, 4.8))
        axes = figure.subplots()
        axes.plot(*places(front), color=style.AFTER, linewidth=1.6, zorder=1)
        beaten = [point for point in found.points if point not in front]
        for points, colour, label in (
            (front, style.AFTER, "Pareto front"),
            (
                beaten,
                style.BEFORE,
                "slower and no better than another",
            ),
        ):
            if points:
                axes.scatter(*places(points), color=colour, label=label, s=34, zorder=2)
        for point, x, y in zip(found.points, *places(found.points), strict=True):
            # Below and to the right of the front there is room: it rises from left to right.
            axes.annotate(
                "original" if point.target == 1 else f"{100 * point.macs:.0f} %",
                (x, y),
                fontsize=9,
                color=style.INK if point in front else style.SOFT,
                xytext=(6, -11),
                textcoords="offset points",
            )
        axes.margins(0.1)
        low, high = min(places(found.points)[1]), max(places(found.points)[1])
        if high - low < (
            least := 0.02 * max(abs(high), abs(low))
        ):  # equal ones are not drawn on an axis of their own size
            axes.set_ylim(low - least, high + least / 2)
        axes.set_xlabel("latency of one sample in ONNX Runtime, % of the original's (labels: MACs left)")
        axes.set_ylabel(_measured(found))
        axes.legend(loc="lower right")
        style.save(figure, path)


def _measured(found: Comparison | Sweep) -> str:
    """The measure, its unit, and at which stage."""
    epochs = found.finetune
    stage = f"after {epochs} epoch{'s' * (epochs != 1)} of fine-tuning" if epochs else "no fine-tuning"
    return f"{spoken(found.measure)}{' in %' if unit_of(found.measure)[1] else ''} ({stage})"


def _beyond(thresholds: Sequence[float], high: float) -> str:
    """Which thresholds lie outside the picture, and on which side; ``high`` is the largest score."""
    sides = {
        "above": [each for each in thresholds if each > high],
        "below": [each for each in thresholds if each <= high],
    }
    words = [f"{', '.join(f'{each:g}' for each in found)} far {side}" for side, found in sides.items() if found]
    return f"thresholds not drawn: {'; '.join(words)}" if words else ""


def _axis_label(scores: Scores) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in scores.settings.items())
    samples = f", N = {scores.samples}" if scores.samples else ""
    return f"score ({settings}{samples})" if settings or samples else "score"
