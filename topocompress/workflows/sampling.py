"""How many calibration samples a network gets where no number is asked for, and what a threshold then means."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from topocompress.data.loading import NO_CLASSES, ONE_LABEL, Data
from topocompress.deploy.measurement import count_macs
from topocompress.errors import DataError
from topocompress.network.inference import device_of, sample_count
from topocompress.planning.confidence import least_samples, upper_loss
from topocompress.planning.rules import USUAL_SAMPLES
from topocompress.workflows.options import Removal

if TYPE_CHECKING:
    from topocompress.models.loading import LoadedModel

_WORK, _LEAST = 1e12, 250
"""Multiply-accumulates that one pass over the samples may take, and samples there are at least."""


def samples_for(loaded: LoadedModel) -> int:
    """Calibration samples for a network: 1,000, for large ones as many as take 10¹² multiply-accumulates, at least 250.

    By Betti numbers a quarter of 1,000 images choose about as many of the same filters as 1,000 other images do
    (``python -m benchmarks.sampling``), while cost grows with their square.
    """
    example = torch.zeros(1, *loaded.preprocessing.input_shape, device=device_of(loaded.module))
    most = int(_WORK / max(1, count_macs(loaded.module, example)))
    return min(USUAL_SAMPLES, max(_LEAST, most // 10 * 10))


def taken_by_size(data: Data, samples: int) -> Data:
    """Loaded data with what is to be said where the network's size has decided how many samples it has."""
    if samples == USUAL_SAMPLES:
        return data
    there = sample_count(data.calibration)
    fewer = f" of the {samples} that there would be" if there < samples else ""
    said = (
        f"{there} calibration samples{fewer}, by the network's size; a threshold on Betti numbers means its value "
        f"among {USUAL_SAMPLES:,} and is scaled to them. --samples takes another number, and the threshold as it is."
    )
    return replace(data, threshold_samples=USUAL_SAMPLES, warnings=(said, *data.warnings))


def threshold_share(data: Data) -> float:
    """By what a threshold on Betti numbers is multiplied to fit the number of calibration samples.

    β0 is a number of pieces, and a share of the samples falls into that share of the pieces.
    """
    return 1.0 if data.threshold_samples is None else sample_count(data.calibration) / data.threshold_samples


def scaled(removal: Removal, data: Data) -> Removal:
    """What to remove, with a threshold that fits the number of calibration samples."""
    if removal.max_betti is None or data.threshold_samples is None:
        return removal
    return replace(removal, max_betti=round(removal.max_betti * threshold_share(data), 2))


def judges(data: Data) -> int:
    """How many samples judge a quality within a budget."""
    return sample_count(data.evaluation if data.judging is None else data.judging)


def check_judges(data: Data, limit: float) -> None:
    """Refuse a budget that so few samples can never show to be kept.

    Args:
        data: Its samples.
        limit: Points of accuracy that may be lost.

    Raises:
        DataError: Not even a network that is right wherever the original is would be within it with confidence.
    """
    count, needed = judges(data), least_samples(limit / 100)
    if count < needed:
        parts = (data.calibration, data.train, data.judging, data.evaluation)
        images = sum(sample_count(part) for part in parts if part is not None)
        points = f"{limit:g} point{' is' if limit == 1 else 's are'}"
        raise DataError(
            f"of {images} labelled images {count} are kept to judge by, and cannot tell whether {points} lost: it "
            f"takes {needed} at least",
            hint=f"Give {needed} others with --val-data, or more with --data; allow more: --max-accuracy-drop "
            f"{math.ceil(100 * upper_loss(0, 0, count))}; or say how much is to go: --target-macs 0.5.",
        )


def no_accuracy(data: Data) -> DataError:
    """The error where accuracy is asked for and there is none."""
    use, unfit = "use --target-macs, --target-latency or --target-size.", data.note in (ONE_LABEL, NO_CLASSES)
    return DataError(
        f"--max-accuracy-drop needs labels to measure accuracy by{f'; {data.note}' if unfit else ''}",
        hint=use.capitalize() if unfit else f"Give labelled images with --data, or {use}",
    )
