"""How pictures look: the colours, type and lines of the report page."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

from cycler import cycler
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from topocompress.runtime.files import atomic_file

INK, SOFT, LINE, GROUND = "#1d2126", "#5b636d", "#d9dad6", "#fcfcfb"
BEFORE, AFTER, REMOVED, KEPT = "#8b929b", "#2c6fb3", "#d1602f", "#7d93ab"
_SERIES = (AFTER, REMOVED, "#0f8577", "#a06bb0", "#d99a2b", "#6f8f2a", "#4b4f9e", "#b3391c", "#2f9e8f", "#8a5a2b")

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "figure.facecolor": GROUND,
    "axes.facecolor": GROUND,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=_SERIES),
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
}


def styled() -> AbstractContextManager[None]:
    """A context in which figures are made as they are to look."""
    return rc_context(STYLE)


def figure(size: tuple[float, float]) -> Figure:
    """An empty figure, (width, height) in inches, without a window."""
    found = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(found)
    return found


def bare(axes: Axes, side: Literal["x", "y"]) -> None:
    """Rows by name: no line, grid or ticks along one side, ``x`` or ``y``."""
    axes.grid(visible=False, axis=side)
    axes.tick_params(axis=side, length=0)
    axes.spines["left" if side == "y" else "bottom"].set_visible(False)


def save(picture: Figure, path: Path) -> None:
    """Write it, atomically; the path's ending says the format.

    Raises:
        OutputError: The file cannot be written.
    """
    with atomic_file(path) as temporary:
        picture.savefig(temporary, dpi=150, format=path.suffix[1:].lower())
