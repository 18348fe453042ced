"""Every error that topocompress raises on purpose.

All share one root, so ``except TopocompressError`` is enough. A message says what is wrong and where (file,
layer, shape); ``hint`` says what to do next. The command line prints both and exits with code 2.
"""

from __future__ import annotations


class TopocompressError(Exception):
    """Root of all errors raised by topocompress.

    Args:
        what: What is wrong, and where.
        hint: What to do next; empty if there is nothing to advise.
    """

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\n{self.hint}" if self.hint else self.what


class ModelError(TopocompressError, ValueError):
    """The given model cannot be read, recognised or run."""


class DataError(TopocompressError, ValueError):
    """The given data cannot be read, or does not fit the model or the settings."""


class CriterionError(TopocompressError, ValueError):
    """A criterion is unknown, clashes with another, or returned something that is no score."""


class TopologyError(TopocompressError, ValueError):
    """A cloud, a scale or a dimension for which Betti numbers are not defined or not supported."""


class PlanError(TopocompressError, ValueError):
    """The rule cannot be planned: it removes nothing, everything, or names what is not there."""


class SurgeryError(TopocompressError, RuntimeError):
    """A plan does not fit the model, or the model does not work after its removal."""


class TrainingError(TopocompressError, RuntimeError):
    """Fine-tuning diverged."""


class ExportError(TopocompressError, RuntimeError):
    """ONNX export failed, or the exported file does not compute what the model computes."""


class ArtifactError(TopocompressError, ValueError):
    """A run directory is incomplete, edited, or not from topocompress."""


class KeptWarning(UserWarning):
    """Something that was kept of earlier work cannot be used; that work is done again."""


class OutputError(TopocompressError, OSError):
    """A result cannot be written where it should go."""

    def __str__(self) -> str:  # OSError has a __str__ of its own, ahead of ours for some argument counts
        return TopocompressError.__str__(self)
