"""A look at samples before any work: what their pixels are taken for, and whether there is anything to see in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from topocompress.data.datasets import FileImages, ForeignSet, SampleSet
from topocompress.data.images import look_at
from topocompress.data.ranges import Look, decided, oddities
from topocompress.errors import DataError
from topocompress.types import Preprocessing

LOOKED = 100
"""How many samples are looked at where looking means reading them once more."""
FEW = 20
"""... and where it means no more than to tell their kind."""
FAINT = 8 / 255
"""Contrast, in units of black to white, below which hardly anything can be seen."""
BLANK = 1e-5
"""Contrast below which an image has one colour; resizing rounds."""
_UNSCALED = 5
"""Finished inputs that reach so many times as far as normalised images are likely not scaled."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Extremes of finished samples.

    Attributes:
        low: (samples,) lowest value.
        high: (samples,) highest.
        contrast: (samples,) the largest difference within a channel; in units of black to white for images that were
            prepared here, and as it is for those that came finished.
        alike: Whether all are the same.
    """

    low: Tensor
    high: Tensor
    contrast: Tensor
    alike: bool


def settle_range(samples: SampleSet, preprocessing: Preprocessing, where: str) -> tuple[Preprocessing, str]:
    """Decide what the numbers in a source's images stand for, once for all of them.

    Args:
        samples: Of any kind; files and images of a foreign dataset are read accordingly from then on.
        preprocessing: What the model expects.
        where: The source, for messages.

    Returns:
        The preprocessing with the range in it, and what was assumed, in words; empty for ordinary images.

    Raises:
        DataError: No one range can serve all.
    """
    if isinstance(samples, FileImages):
        looks: Sequence[Look] = list(samples.looks.values())
    elif isinstance(samples, ForeignSet):
        if len({samples.comes_finished(index) for index in evenly(len(samples), FEW)}) > 1:
            raise DataError(
                f"{where} yields float tensors, which go to the network as they are, and others, which are prepared",
                hint="Yield one kind: float tensors, uint8 tensors or PIL images.",
            )
        looks = _looks_at(samples)
    else:
        return preprocessing, ""
    if not looks:
        return preprocessing, ""
    pixel_range, words = decided(looks, preprocessing.pixel_range, where)
    samples.preprocessing = replace(preprocessing, pixel_range=pixel_range)
    notes = [words, *oddities(looks, preprocessing.input_shape[0])]
    return samples.preprocessing, "; ".join(filter(None, notes))


def check_seen(dataset: Any, preprocessing: Preprocessing, where: str, *, ready: bool, pixels: str = "") -> str:
    """Look at some samples as the network gets them.

    Args:
        dataset: Yields (image, label).
        preprocessing: What the model expects.
        where: The source, for messages.
        ready: They come finished from the user, as floats.
        pixels: What their pixels were taken for, which may be why there is nothing to see.

    Returns:
        What is odd about them, in words; empty if nothing is.

    Raises:
        DataError: There is nothing to see: each has one colour throughout, or all are the same.
    """
    numbers = evenly(len(dataset), LOOKED)
    # the network may see vectors as images of one pixel, which have no contrast of their own
    single = preprocessing.input_shape[1:] == (1, 1)
    found = _spread((dataset[index][0] for index in numbers), 1.0 if ready else torch.tensor(preprocessing.std))
    _refuse_blank(
        found, f"{where}: of the {len(numbers)} calibration samples looked at", pixels, single=single, ready=ready
    )
    notes = []
    blank = int((found.contrast < BLANK).sum()) if not single else 0
    if blank:
        notes.append(f"{blank} of {len(numbers)} samples looked at have one colour throughout")
    faint = int((found.contrast < FAINT).sum()) - blank
    if not ready and faint > len(numbers) / 2:
        notes.append(
            f"{faint} of {len(numbers)} samples looked at have hardly any contrast (less than 8 of 255 levels): "
            "is their range of pixels right?"
        )
    return "; ".join([*notes, *(_as_finished(found, preprocessing) if ready else ())])


def _refuse_blank(found: Spread, which: str, pixels: str, *, single: bool, ready: bool) -> None:
    hint = (
        "Look at what the dataset yields."
        if ready
        else "If the files show more: save them with 8 bits a sample, or say which numbers mean black and white "
        "(--pixel-range LOW,HIGH, for images of more than 8 bits)."
    )
    if not single and bool((found.contrast < BLANK).all()):
        seen = "every one has a single colour throughout"
    elif found.alike and len(found.low) > 1:
        seen = "all are the same image"
    else:
        return
    why = f" ({pixels})" if pixels else ""
    raise DataError(f"{which}, {seen}: nothing can be told from them{why}", hint=hint)


def evenly(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` of the numbers below ``count``, evenly spaced."""
    return sorted({int(index) for index in np.linspace(0, count - 1, min(count, wanted))}) if count else []


def _looks_at(samples: ForeignSet) -> list[Look]:
    numbers = evenly(len(samples), LOOKED)
    if not numbers or not isinstance(samples.raw(numbers[0]), Image.Image):
        return []
    found: list[Look] = []
    for index in numbers:
        image = samples.raw(index)
        seen = look_at(image) if isinstance(image, Image.Image) else "no image"
        if isinstance(seen, Look):  # what is not usable is refused where it is used
            found.append(seen)
    return found


def _spread(images: Any, std: Any) -> Spread:
    low, high, contrast, alike, first = [], [], [], True, None
    for image in images:
        flat = image.flatten(1)
        low.append(flat.min())
        high.append(flat.max())
        contrast.append(((flat.amax(1) - flat.amin(1)) * std).max())
        first = image if first is None else first
        alike = alike and torch.equal(image, first)
    return Spread(low=torch.stack(low), high=torch.stack(high), contrast=torch.stack(contrast), alike=alike)


def _as_finished(found: Spread, preprocessing: Preprocessing) -> list[str]:
    """What speaks against samples being normalised as the model is said to want them."""
    if not preprocessing.is_image:
        return []
    mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
    low, high = float((-mean / std).min()), float(((1 - mean) / std).max())
    lowest, highest = float(found.low.min()), float(found.high.max())
    span = f"values of {lowest:.3g}..{highest:.3g}, which go to the network as they are"
    expected = (
        f"images with its mean and standard deviation (--mean, --std) would have {low:.3g}..{high:.3g}; "
        "if the network was trained on other inputs, yield uint8 or PIL images"
    )
    if max(-lowest, highest) > _UNSCALED * max(-low, high):
        return [f"the float tensors hold {span}, not scaled: {expected}"]
    if lowest >= 0 and highest <= 1 and low < -0.1:
        return [f"the float tensors hold {span}, not normalised: {expected}"]
    return []
