"""The pictures in ``docs/research/activation.md``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.activation.betti import VARIANTS, counted, totals_of
from benchmarks.activation.sets import NAMES, TASKS
from benchmarks.activation.steps import spread
from benchmarks.activation.zoo import FIRST, FIXED, OURS
from topocompress import TopologicalActivation
from topocompress.activation.point_sets import nine_discs

mpl.use("agg")
_COLOURS = ("#c2410c", "#1d4ed8")
_STYLES = {", decay": "--", ", larger start": ":", "": "-"}
_LINES = {FIRST: "#c2410c", FIXED: "#f59e0b", "SiLU": "#7e22ce", "ReLU": "#1d4ed8", "tanh": "#15803d"}


def draw(rows: Mapping[str, Any], folder: Path) -> None:
    """All of them; those whose measurements are not there yet are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    _save(_fold(), folder / "activation-fold.png")
    if any(key.startswith("sets/") and key.endswith("/runs") for key in rows):
        _save(_steps(rows), folder / "activation-steps.png")
    if any(key.startswith("betti/") for key in rows):
        _save(_betti(rows), folder / "activation-betti.png")


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _fold() -> Figure:
    """The nine discs before and after one layer of two units, with ReLU and with a wave."""
    points, labels = nine_discs().sample(4000, seed=0)
    # One turn of the wave is the distance between two discs; the discs lie at its crests.
    received = math.pi * torch.from_numpy(points) + math.pi / 4
    with torch.no_grad():
        after = {
            "the two classes": points,
            "after one ReLU layer": torch.relu(received).numpy(),
            "after one topological layer": TopologicalActivation(2, amplitude=4.0)(received).numpy(),
        }
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axes, (title, cloud) in zip(figure.subplots(1, 3), after.items(), strict=True):
        for label in (1, 0):
            axes.scatter(*cloud[labels == label].T, s=2, color=_COLOURS[label], linewidths=0)
        axes.set_title(title)
        axes.set_aspect("equal")
    return figure


def _steps(rows: Mapping[str, Any]) -> Figure:
    """Median steps to 99 % with quartiles; a run that failed stands at the limit."""
    begun = {title: task for title, task in TASKS.items() if any(key.startswith(f"sets/{title}/") for key in rows)}
    figure = Figure(figsize=(10, 2.6 * len(begun)), layout="constrained")
    for axes, (title, task) in zip(figure.subplots(len(begun), 1, squeeze=False)[:, 0], begun.items(), strict=True):
        for place, name in enumerate(NAMES):
            entry = rows.get(f"sets/{title}/{name}/runs")
            if entry is None:
                axes.text(place, task.steps, "not run", ha="center", va="top", fontsize=8)
                continue
            steps = [task.steps if each is None else each for each in entry["steps"]["0.99"]]
            low, median, high = np.quantile(steps, (0.25, 0.5, 0.75))
            axes.bar(place, median, color=_COLOURS[0] if name.startswith(OURS) else "#94a3b8")
            axes.vlines(place, low, high, color="black")
            axes.text(place, high, spread(entry["steps"]["0.99"]).split(" ")[0], ha="center", va="bottom", fontsize=8)
        axes.set_xticks(range(len(NAMES)), [name.replace(", ", ",\n") for name in NAMES], fontsize=7)
        axes.set_yscale("log")
        axes.set_xlim(-0.6, len(NAMES) - 0.4)
        axes.set_ylim(5, 2 * task.steps)
        axes.set_title(f"{title}: steps to 99 %, of {task.steps} at most", fontsize=9)
    return figure


def _betti(rows: Mapping[str, Any]) -> Figure:
    """Sum of the Betti numbers of both classes after each layer: medians, and one faint line for each network.

    Where no network came to 99 %, the points are hollow.
    """
    titles = [title for title in TASKS if any(key.startswith(f"betti/{title}/") for key in rows)]
    lines: dict[str, Line2D] = {}
    figure = Figure(figsize=(4 * len(titles), 4.4), layout="constrained")
    for axes, title in zip(figure.subplots(1, len(titles), squeeze=False)[0], titles, strict=True):
        for name in VARIANTS:
            row, trained = (rows.get(f"{kind}/{title}/{name}") for kind in ("betti", "betti-networks"))
            if row is None or trained is None:
                continue
            kind = next(kind for kind in _STYLES if name.endswith(kind))
            colour, style = _LINES[name.removesuffix(kind)], _STYLES[kind]
            failed = all(steps is None for steps in trained["steps"])
            totals = np.array([totals_of(network) for network in counted(row, trained)])
            inside = "white" if failed else colour
            lines[name] = Line2D([], [], color=colour, linestyle=style)
            axes.plot(np.median(totals, 0), style, color=colour, marker="o", markersize=4, markerfacecolor=inside)
            axes.plot(totals.T, style, color=colour, alpha=0.15, linewidth=0.6)
            axes.set_xticks(range(len(row["layers"])), row["layers"], fontsize=8)
        first = TASKS[title].source.total_betti
        axes.axhline(first / 2, color="#94a3b8", linewidth=0.8, linestyle=":")
        axes.set_ylim(0, 2.5 * first)
        axes.set_title(f"{title}: sum of all Betti numbers", fontsize=9)
        axes.set_xlabel("layer")
    figure.legend([*lines.values()], [*lines], loc="outside lower center", ncols=5, fontsize=8, handlelength=4)
    return figure
