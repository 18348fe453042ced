"""Pictures of one filter: barcodes, Betti curves and the feature cloud in the plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from topocompress.runtime.files import atomic_file
from topocompress.runtime.outputs import check_picture
from topocompress.types import FilterView

# Paul Tol's high-contrast scheme: told apart with any colour vision and in grey. Lines differ in dash as well.
_DIMENSIONS = (("#004488", "-"), ("#BB5566", (0, (4, 1.5))), ("#997700", (0, (1, 1))))
# His muted scheme, each colour with a marker of its own.
_LABELS = ("#332288", "#DDCC77", "#117733", "#CC6677", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499", "#333333")
_MARKERS = "o^sDvPX<>*"
_NEUTRAL, _MARK, _FAINT = "#44688A", "#111111", "#8C8C8C"
_EDGES = 6000
_LINEAR_UP_TO = 40
_NAME = 16


def plot_filter(path: Path, view: FilterView, *, model: str = "", classes: Sequence[str] = ()) -> None:
    """Draw one filter: a barcode per dimension above the Betti curves, and beside them the cloud.

    Args:
        path: File to write; its ending (.png, .svg or .pdf) says the format.
        view: From :func:`topocompress.inspect_filter`.
        model: What the title calls the model.
        classes: Names of the labels; without them the legend numbers them.

    Raises:
        OutputError: The ending is not supported, or the file cannot be written.
    """
    check_picture(path)
    rows = len(view.diagrams)
    height = 4.4 + 0.9 * rows
    figure = Figure(figsize=(12, height))
    FigureCanvasAgg(figure)
    name = f"{model}: " if model else ""
    title = f"{name}{view.layer}, filter {view.filter}"
    size = min(14.0, 1250 / len(title))  # a long one shrinks to the width of the picture
    figure.text(0.02, 1 - 0.32 / height, title, fontsize=size, fontweight="bold", parse_math=False)
    figure.text(0.02, 1 - 0.58 / height, _facts(view), fontsize=10, color="#444444")
    names = _legend(view, classes)
    columns = 5 if max(map(len, names.values()), default=0) < 8 else 3
    below = 0.18 * -(-len(names) // columns) + 0.15 * bool(names)
    # Placed by hand: what is left for the axes does not depend on what happens to be drawn.
    top, bottom = 1 - 1.0 / height, 0.6 / height
    bars = figure.add_gridspec(rows, 1, left=0.115, right=0.52, top=top, bottom=bottom + 2.3 / height, hspace=0.12)
    curves = figure.add_gridspec(1, 1, left=0.115, right=0.52, top=bottom + 1.8 / height, bottom=bottom)
    cloud = figure.add_gridspec(1, 1, left=0.6, right=0.98, top=top, bottom=bottom + below / height)
    lowest = figure.add_subplot(curves[0])
    panels = [figure.add_subplot(bars[row], sharex=lowest) for row in range(rows)]
    for dimension, axes in zip(view.diagrams, panels, strict=True):
        _draw_bars(axes, view, dimension)
    _draw_curves(lowest, view)
    _mark_epsilon(panels, lowest, view)
    axes = figure.add_subplot(cloud[0])
    _draw_cloud(axes, view, names)
    if names:
        place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.79, 0.0)}
        legend = figure.legend(*axes.get_legend_handles_labels(), ncols=columns, fontsize=8.5, frameon=False, **place)
        for text in legend.get_texts():
            text.set_parse_math(False)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=120, format=path.suffix[1:].lower())


def _facts(view: FilterView) -> str:
    dead = "; dead: the map is the same for every sample" if view.dead else ""
    maps = "".join(f", {name.replace('_', ' ')} {value}" for name, value in view.maps.items())
    return f"N = {view.samples}{maps}, scale {view.scale}, mean distance {view.mean_distance:.3g}{dead}"


def _legend(view: FilterView, classes: Sequence[str]) -> dict[int, str]:
    """What the legend calls each label; empty where there are none, or more than can be told apart."""
    known = [] if view.labels is None else np.unique(view.labels).tolist()
    if len(known) > len(_LABELS):
        return {}
    names = {label: classes[label] if label < len(classes) else str(label) for label in known}
    return {label: name if len(name) <= _NAME else f"{name[: _NAME - 1]}…" for label, name in names.items()}


def _end(view: FilterView) -> float:
    """Right end of the ε axis: past every bar, and past ε unless that is far out."""
    last = max(float(bars[np.isfinite(bars)].max(initial=0.0)) for bars in view.diagrams.values())
    return 1.06 * max(last, min(view.epsilon, 3 * last if last else view.epsilon)) or 1.0


def _draw_bars(axes: Axes, view: FilterView, dimension: int) -> None:
    bars, end, colour = view.diagrams[dimension], _end(view), _DIMENSIONS[dimension][0]
    bars = bars[np.lexsort((-bars[:, 1], bars[:, 0]))]
    rows, endless = np.arange(len(bars)), np.isinf(bars[:, 1])
    starts, stops = bars[:, 0], np.where(endless, end, bars[:, 1])
    width = float(np.clip(60 / max(1, len(bars)), 0.4 if dimension else 0.8, 3))  # of H0, all from 0, one area
    axes.hlines(rows, starts, stops, colors=colour, linewidth=width)
    axes.plot(np.full(endless.sum(), end), rows[endless], ">", color=colour, markersize=5, clip_on=False)
    note = f"{len(bars)} bar{'s' * (len(bars) != 1)}"
    longest = view.longest(dimension)
    if dimension and longest:
        row = int(np.argmax(np.where(endless, -1.0, bars[:, 1] - starts)))
        axes.plot(longest, (row, row), color=_MARK, linewidth=max(2.0, width), solid_capstyle="butt")
        note += f"\nlongest (black):\n{longest[0]:.3g} to {longest[1]:.3g}"
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "right"}
    axes.annotate(
        f"H{dimension}", (0, 0.5), (-8, 4), va="bottom", fontsize=12, fontweight="bold", color=colour, **place
    )
    axes.annotate(note, (0, 0.5), (-8, 2), va="top", fontsize=8, **place)
    axes.tick_params(labelbottom=False)
    axes.xaxis.offsetText.set_visible(False)
    axes.set_yticks([])
    axes.set_ylim(1.04 * len(bars), -0.04 * len(bars) - 1)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_curves(axes: Axes, view: FilterView) -> None:
    end = _end(view)
    highest = max(int(curve.max()) for curve in view.curves.values())
    for dimension, curve in view.curves.items():
        colour, dash = _DIMENSIONS[dimension]
        places, values = np.append(view.grid, max(end, view.grid[-1])), np.append(curve, curve[-1])
        label = f"β{dimension} = {view.betti[dimension]}"
        axes.step(places, values, where="post", color=colour, linestyle=dash, linewidth=1.8, label=label)
    if highest > _LINEAR_UP_TO:
        axes.set_yscale("symlog", linthresh=1, linscale=0.4)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_ylim(-0.25, 1.5 * highest)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(-0.04 * max(1, highest), 1.1 * max(1, highest))
    axes.set_xlim(0, end)
    axes.set_ylabel("Betti number")
    axes.set_xlabel("ε, hops in the neighbour graph" if view.unit == "hops" else "ε, distance between maps")
    if view.unit == "hops":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    # Above the axes, where no curve can pass.
    place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1.01, 0.98), "borderaxespad": 0.2}
    axes.legend(ncols=len(view.curves), frameon=False, fontsize=10, handlelength=2.6, **place)
    axes.annotate(f"at ε = {view.epsilon:.4g}:", (0, 1), (0, 6), xycoords="axes fraction", textcoords="offset points")


def _mark_epsilon(panels: Sequence[Axes], lowest: Axes, view: FilterView) -> None:
    place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "va": "bottom"}
    if view.epsilon > _end(view):
        panels[0].annotate("ε is further out →", (_end(view), 1), (0, 3), ha="right", fontsize=10, **place)
        return
    for axes in (*panels, lowest):
        axes.axvline(view.epsilon, color=_MARK, linewidth=1.1, linestyle=(0, (6, 2)))
    panels[0].annotate("ε", (view.epsilon, 1), (0, 2), ha="center", fontsize=12, **place)


def _draw_cloud(axes: Axes, view: FilterView, names: Mapping[int, str]) -> None:
    shown = ", light lines" if len(view.edges) <= _EDGES else ", too many to draw"
    if len(view.edges) <= _EDGES:
        lines = LineCollection(list(view.view[view.edges]), colors=_FAINT, linewidths=0.5, alpha=0.3, zorder=1)
        lines.set_rasterized(True)  # thousands of paths would make a vector picture slow to open
        axes.add_collection(lines)
    plural = "s" * (len(view.edges) != 1)
    axes.set_title(f"{len(view.edges):,} pair{plural} within ε{shown}", fontsize=9, loc="right", pad=4)
    x, y = view.view.T
    style: dict[str, Any] = {"linewidths": 0.3, "edgecolors": _MARK, "zorder": 2}
    size = float(np.clip(9000 / len(x), 15, 45))
    for (label, name), colour, marker in zip(names.items(), _LABELS, _MARKERS, strict=False):
        own = view.labels == label
        larger = 1.7 if marker in "PX*" else 1.0
        # A name that began with an underscore would be left out of the legend.
        axes.scatter(x[own], y[own], s=larger * size, color=colour, marker=marker, label=f" {name}", **style)
    if view.labels is None:
        axes.scatter(x, y, s=size, color=_NEUTRAL, **style)
    elif not names:
        points = axes.scatter(x, y, s=size, c=view.labels, cmap="cividis", **style)
        axes.figure.colorbar(points, ax=axes, label="label", shrink=0.7)
    axes.set_xlabel(f"first principal component ({100 * view.explained[0]:.1f} % of the variance)")
    axes.set_ylabel(f"second principal component ({100 * view.explained[1]:.1f} %)")
    axes.set_aspect("equal", adjustable="datalim")
    axes.spines[["top", "right"]].set_visible(False)
