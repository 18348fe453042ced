"""Training images shifted and mirrored, each by what its number, the epoch and the seed decide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Subset

from topocompress.types import Augmentation

_SHARE = 8


def augmentation_of(samples: Any, asked: bool | None) -> Augmentation:
    """What is done to training samples.

    Args:
        samples: A dataset; its attribute ``augmentation``, if it has one, says what suits it.
        asked: ``None`` for what suits them, ``True`` for shifts and mirrors where the samples say nothing, ``False``
            for nothing.
    """
    while isinstance(samples, Subset):
        samples = samples.dataset
    suits: Augmentation | None = getattr(samples, "augmentation", None)
    if asked is False:
        return "none"
    return suits or ("natural" if asked else "none")


def augmented(images: Tensor, numbers: Sequence[int], kind: Augmentation, *, seed: int, epoch: int) -> Tensor:
    """Shift each image by up to an eighth of each side, its border repeated; ``natural`` mirrors every other one.

    The border is repeated because images are normalised: a zero would be some grey, not black.

    Args:
        images: (B, C, H, W)
        numbers: (B,) number of each sample in its set. An image's fate depends on it, the epoch and the seed alone,
            not on the batch it is in.
        kind: ``none``, ``shift`` or ``natural``.
        seed: Seed of all epochs.
        epoch: Number of the epoch.

    Returns:
        (B, C, H, W); what has no two sides, such as vectors, as it is.
    """
    if kind == "none" or images.ndim != 4:
        return images
    height, width = images.shape[-2:]
    pad_h, pad_w = max(height // _SHARE, 1), max(width // _SHARE, 1)
    padded = F.pad(images, (pad_w, pad_w, pad_h, pad_h), mode="replicate")
    found = torch.empty_like(images)
    for place, number in enumerate(numbers):
        rng = np.random.default_rng([seed, epoch, number])
        top, left = rng.integers(2 * pad_h + 1), rng.integers(2 * pad_w + 1)
        window = padded[place, :, top : top + height, left : left + width]
        found[place] = window.flip(-1) if kind == "natural" and rng.random() < 0.5 else window
    return found
