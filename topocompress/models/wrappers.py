"""What networks are wrapped in for training and compilation, and the network inside."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from topocompress.errors import ModelError
from topocompress.network.inference import evaluating
from topocompress.network.inputs import called

_INSIDE = {
    "OptimizedModule": "_orig_mod",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "FullyShardedDataParallel": "module",
    "AveragedModel": "module",
}
"""Kind of wrapper → its attribute that holds the network."""


def unwrapped(module: nn.Module) -> nn.Module:
    """The network inside ``torch.compile``'s module, data-parallel ones and averages of weights; else the module."""
    while True:
        names = (_INSIDE.get(kind.__name__) for kind in type(module).__mro__)
        inner = next(
            (found for name in names if name and isinstance(found := getattr(module, name, None), nn.Module)), None
        )
        if inner is None:
            return module
        module = inner


def unwrapped_note(module: nn.Module) -> str:
    """What to say of a network that was taken out of a wrapper; empty of another."""
    inner = unwrapped(module)
    return "" if inner is module else f"taken out of its {type(module).__name__}: {type(inner).__name__}"


def settled(module: nn.Module, inputs: Callable[[], Tensor]) -> nn.Module:
    """A module of our own whose lazy layers have run once, and so have weights, which are random.

    Args:
        module: The network; changed in place where a layer of it is lazy.
        inputs: Makes one sample or more, as the network takes it; called where a layer is lazy.

    Raises:
        ModelError: It does not run on the inputs.
    """
    if any(is_lazy(each) for each in (*module.parameters(), *module.buffers())):
        try:
            with evaluating(module), torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                called(module, inputs())
        except Exception as error:
            raise ModelError(
                f"lazy layers take their sizes from the first inputs, and the network does not run on them: {error}",
                hint="Give the network or its factory input_shape = (channels, height, width), or run it once before.",
            ) from error
    return module
