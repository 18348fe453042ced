"""Pictures of scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from topocompress.errors import OutputError
from topocompress.files import atomic_file
from topocompress.types import Scores

_FORMATS = (".png", ".svg", ".pdf")


def plot_scores(path: Path, scores: Scores, thresholds: Sequence[float] = ()) -> None:
    """Draw the distribution of the scores: all filters as a histogram, each layer as a box.

    Args:
        path: File to write; its ending (.png, .svg or .pdf) says the format.
        scores: What to draw.
        thresholds: Values to mark with a line.

    Raises:
        OutputError: The ending is not supported, or the file cannot be written.
    """
    check_format(path)
    names = list(scores.layers)
    values = [layer.values for layer in scores.layers.values()]
    figure = Figure(figsize=(10, 3.2 + 0.22 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
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
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=150, format=path.suffix[1:].lower())


def check_format(path: Path) -> None:
    """Refuse a picture format that cannot be drawn, before any work is spent.

    Raises:
        OutputError: The ending is not supported.
    """
    if path.suffix.lower() not in _FORMATS:
        raise OutputError(f"cannot draw {path}: unknown picture format", hint=f"Use one of {', '.join(_FORMATS)}.")


def _axis_label(scores: Scores) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in scores.settings.items())
    samples = f", N = {scores.samples}" if scores.samples else ""
    return f"score ({settings}{samples})" if settings or samples else "score"
