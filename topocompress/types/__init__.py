"""The values that flow down the data path: frozen, keyword-only, inert.

In: plain values. Out: plain values, checked: every package hands these on, none is computed here. ``networks`` has how
one is built and fed, ``pruning`` what leads to a plan, ``results`` what a finished run says, ``comparisons`` what a
comparison or a sweep says. May import :mod:`topocompress.errors` and numpy.
"""

from topocompress.types.comparisons import Cell, Comparison, Point, Sweep
from topocompress.types.networks import Architecture, Augmentation, InputPart, Interpolation, PixelRange, Preprocessing
from topocompress.types.pruning import (
    ChannelGroup,
    Direction,
    FilterView,
    GroupPlan,
    LayerCost,
    LayerScores,
    PruningPlan,
    Scores,
)
from topocompress.types.results import (
    Budget,
    Control,
    Delivery,
    ExportCheck,
    Latency,
    Measurement,
    NodeTimes,
    Probe,
    Quantized,
    Refit,
    Report,
    in_fewer_bits,
)

__all__ = [
    "Architecture",
    "Augmentation",
    "Budget",
    "Cell",
    "ChannelGroup",
    "Comparison",
    "Control",
    "Delivery",
    "Direction",
    "ExportCheck",
    "FilterView",
    "GroupPlan",
    "InputPart",
    "Interpolation",
    "Latency",
    "LayerCost",
    "LayerScores",
    "Measurement",
    "NodeTimes",
    "PixelRange",
    "Point",
    "Preprocessing",
    "Probe",
    "PruningPlan",
    "Quantized",
    "Refit",
    "Report",
    "Scores",
    "Sweep",
    "in_fewer_bits",
]
