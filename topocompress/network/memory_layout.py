"""In what order the numbers of images and maps lie in memory; convolutions on a CPU are fastest channels last."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from topocompress.errors import ModelError
from topocompress.network.inference import all_outputs, evaluating, run_forward

_TOLERANCE = 1e-3
"""Of the largest output: far above rounding, far below what a network does that misreads the layout."""


def fast_layout(model: nn.Module, example: Tensor) -> torch.memory_format:
    """How images should lie in memory: channels last, which is faster on the CPU, if the network takes it.

    Shapes are the same in both layouts. A network that views its maps as if they lay plainly fails in the other one,
    and one that reads memory by strides errs; so it is tried out.

    Args:
        model: The network; left as it was.
        example: (samples, C, H, W) input; anything else stays as it is.

    Raises:
        ModelError: The model does not accept the example.
    """
    if example.ndim != 4:
        return torch.contiguous_format
    with evaluating(model) as device:
        if device.type != "cpu":
            return torch.contiguous_format
        expected = all_outputs(run_forward(model, example.to(device)))
        try:
            found = all_outputs(run_forward(model, laid_out(example.to(device), torch.channels_last)))
        except ModelError:
            return torch.contiguous_format
    return torch.channels_last if all(map(_close, found, expected)) else torch.contiguous_format


def laid_out(images: Tensor, layout: torch.memory_format) -> Tensor:
    """Images in a memory layout."""
    return images.contiguous(memory_format=layout) if images.ndim == 4 else images


def _close(found: Tensor, expected: Tensor) -> bool:
    if found.shape != expected.shape:  # a detector's boxes: rounding may tip one over a threshold
        return True
    finite = expected[expected.isfinite()].abs()
    largest = float(finite.max()) if finite.numel() else 0.0
    return torch.allclose(found, expected, rtol=0, atol=_TOLERANCE * largest, equal_nan=True)
