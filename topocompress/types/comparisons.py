"""What is found when many networks are made of one, by several criteria or in several sizes. Frozen, plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What one criterion left of one model at one ratio, with one set of calibration samples.

    Attributes:
        criterion: Name, with settings.
        ratio: Share of every group's channels that went.
        seed: Which set of calibration samples.
        macs: Multiply-accumulates for one sample that are left.
        removed: The measure in 0..1 right after removal.
        settled: The same after repair: layers reconstructed, or BatchNorm re-estimated.
        tuned: The same after fine-tuning; ``None`` without.
    """

    criterion: str
    ratio: float
    seed: int
    macs: int
    removed: float
    settled: float
    tuned: float | None = None

    @property
    def final(self) -> float:
        """What is left in the end."""
        return self.settled if self.tuned is None else self.tuned


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What :func:`topocompress.workflows.compare.compare` found.

    Attributes:
        model: Where the model came from.
        data: Where the samples came from.
        measure: ``accuracy``; where there are no labels ``agreement`` with the original, or ``explained_variation`` of
            its outputs.
        original: The measure of the original, in 0..1.
        macs: Its multiply-accumulates for one sample.
        samples: Calibration samples of each seed.
        finetune: Epochs of fine-tuning.
        cells: Every result.
        left_out: Criteria that cannot judge this model, and why.
        adapted: Criteria that took other settings because they suit what follows removal, and which, such as
            ``alone=1000``.
        warnings: Sentences the user should read.
        compared_by: How outputs are compared with the original's, in words.
    """

    model: str
    data: str
    measure: str
    original: float
    macs: int
    samples: int
    finetune: int
    cells: tuple[Cell, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    adapted: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    compared_by: str = ""

    @property
    def criteria(self) -> list[str]:
        """Names, in the order of the results."""
        return list(dict.fromkeys(cell.criterion for cell in self.cells))

    @property
    def ratios(self) -> list[float]:
        """Ratios, in the order of the results."""
        return list(dict.fromkeys(cell.ratio for cell in self.cells))

    def of(self, criterion: str, ratio: float) -> list[Cell]:
        """The results of a criterion at a ratio, one per seed."""
        return [cell for cell in self.cells if (cell.criterion, cell.ratio) == (criterion, ratio)]


@dataclass(frozen=True, kw_only=True)
class Point:
    """A network cut to one size.

    Attributes:
        target: Share of the original's multiply-accumulates asked for; 1 is the original.
        macs: Share that is left.
        quality: The sweep's measure in 0..1 on held-out samples.
        latency: Median latency of one sample in ONNX Runtime as a share of the original's, timed in turn.
        file_bytes: Size of the ONNX file, bytes.
    """

    target: float
    macs: float
    quality: float
    latency: float
    file_bytes: int


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What :func:`topocompress.workflows.sweep.sweep` found.

    Attributes:
        model: Where the model came from.
        data: Where the samples came from.
        measure: ``accuracy``; where there are no labels ``agreement`` with the original, or ``explained_variation`` of
            its outputs.
        criterion: What chose the filters.
        finetune: Epochs of fine-tuning of every point.
        points: The original first, then from large to small.
        settings: The criterion's, as plain data.
        warnings: Sentences the user should read.
        compared_by: How outputs are compared with the original's, in words.
    """

    model: str
    data: str
    measure: str
    criterion: str
    finetune: int
    points: tuple[Point, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    compared_by: str = ""

    @property
    def front(self) -> tuple[Point, ...]:
        """The points that no other is both faster and better than, from slow to fast (the Pareto front)."""
        best: list[Point] = []
        for point in sorted(self.points, key=lambda point: (point.latency, -point.quality)):
            if not best or point.quality > best[-1].quality:
                best.append(point)
        return tuple(reversed(best))
