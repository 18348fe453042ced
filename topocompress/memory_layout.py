"""In what order a network's weights lie in memory while it trains; convolutions are fastest channels last."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from topocompress.errors import ModelError
from topocompress.inference import evaluating, main_output, run_forward

_TOLERANCE = 1e-3
"""Of the largest output; orders of magnitude above rounding, and below what a misread layout does."""


def training_layout(model: nn.Module, inputs: Tensor) -> torch.memory_format:
    """Channels last where the network computes the same in it, else the usual layout.

    Shapes are the same in both. A network that calls ``view`` on feature maps, or reads memory by strides, may
    nevertheless fail or err, so it is tried out on a copy.

    Args:
        model: The network, on its device; not changed.
        inputs: A few samples, (samples, channels, h, w), on that device.

    Raises:
        ModelError: The model does not accept the samples.
    """
    with evaluating(model):
        expected = main_output(run_forward(model, inputs))
    changed = copy.deepcopy(model).to(memory_format=torch.channels_last)
    with evaluating(changed):
        try:
            found = main_output(run_forward(changed, inputs))
        except ModelError:
            return torch.contiguous_format
    close = torch.allclose(found, expected, rtol=0, atol=_TOLERANCE * float(expected.abs().max()), equal_nan=True)
    return torch.channels_last if close else torch.contiguous_format
