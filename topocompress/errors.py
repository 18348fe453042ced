"""Every error that topocompress raises on purpose.

All share one root, so ``except TopocompressError`` is enough. A message says what is wrong and where (file,
layer, shape); ``hint`` says what to do next. The command line prints both and exits with code 2. Both write options as
on the command line, ``--max-betti 300``; as a text the error has arguments of Python instead, ``max_betti=300``.
"""

from __future__ import annotations

import re


class TopocompressError(Exception):
    """Root of all errors raised by topocompress.

    Args:
        what: What is wrong, and where; with options as on the command line.
        hint: What to do next; empty if there is nothing to advise.
    """

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return in_python(f"{self.what}\n{self.hint}" if self.hint else self.what)


_OPTION = re.compile(r"(?<![\w-])--(no-)?([a-z][a-z0-9-]*)(?: ([^\s,;]*[^\s,;:.)]))?")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(k|M|G)B")
_FLAGS = {"force", "dry-run", "per-class", "linear", "unlabelled", "resume", "strict", "download", "trust-pickle"}
_ARGUMENTS = {"macs": "targets", "dims": "dimensions"}
"""Options that are called otherwise in Python."""


def in_python(text: str) -> str:
    """A message with the options of the command line as arguments of a function."""
    return _OPTION.sub(_argument, text)


def _argument(found: re.Match[str]) -> str:
    absent, option, word = found.groups()
    name = _ARGUMENTS.get(option, option).replace("-", "_")
    value, rest = _value(word or "")
    if absent or option in _FLAGS:
        value, rest = str(not absent), word or ""
    return f"{name}={value}" + (f" {rest}" if rest else "")


def _value(word: str) -> tuple[str, str]:
    """What a word after an option is: its value in Python, or what goes on behind it."""
    if re.fullmatch(r"-?\d+(\.\d+)?(e[+-]?\d+)?|nan|-?inf|'.*'", word):
        return word, ""
    if size := _SIZE.fullmatch(word):
        return f"{float(size[1]) * {'k': 1e3, 'M': 1e6, 'G': 1e9}[size[2]]:.0f}", ""
    if re.search(r"[\d:=/A-Z]", word) or word in ("int8", "auto", "topological", "global", "imagenet"):
        return repr(word), ""
    return "", word


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


class OptionError(TopocompressError, TypeError):
    """An argument is of a type that it cannot be."""


class KeptWarning(UserWarning):
    """Something that was kept of earlier work cannot be used; that work is done again."""


class OutputError(TopocompressError, OSError):
    """A result cannot be written where it should go."""

    def __str__(self) -> str:  # OSError has a __str__ of its own, ahead of ours for some argument counts
        return TopocompressError.__str__(self)
