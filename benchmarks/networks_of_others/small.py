"""Small networks, one for each way in which channels hang together; the tests know every channel of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import nn

from tests.helpers import many_axes, reshaped, rewired, tiny_nets, undeclared
from tests.helpers.attention_nets import attention_net

IMAGE = (3, 8, 8)
Made = tuple[Callable[[], nn.Module], tuple[int, ...]]


def _on_images(*kinds: tuple[str, Callable[..., nn.Module], tuple[Any, ...]]) -> dict[str, Made]:
    return {name: (functools.partial(kind, *arguments), IMAGE) for name, kind, arguments in kinds}


SMALL: dict[str, Made] = {
    **{
        f"{kind.__name__} {dims}d": (functools.partial(kind, dims), many_axes.shape(dims))
        for kind in (many_axes.Classifier, many_axes.Flattened, many_axes.AutoEncoder, many_axes.UNet)
        for dims in (1, 3)
    },
    "LSTM": (many_axes.Recurrent, many_axes.shape(1)),
    **{f"norm: {name}": (functools.partial(undeclared.Normed, name), IMAGE) for name in undeclared.NORMS},
    **_on_images(
        ("depth multipliers", undeclared.Multiplied, ()),
        ("weight standardisation", undeclared.Chain, (undeclared.standardised,)),
        ("LoRA", undeclared.Chain, (undeclared.LoRA,)),
        ("masks of pruning", undeclared.masked, ()),
        ("spectral norm", undeclared.normed, ("new spectral_norm",)),
        ("tied weights", undeclared.tied, ()),
        ("C2f", rewired.C2f, ()),
        ("coordinates", rewired.Coordinates, ()),
        ("one PReLU", rewired.Shared, ()),
        ("pixel shuffle", rewired.Upscaler, ()),
        ("space to depth", rewired.Downscaler, ()),
        ("CBAM", rewired.Gated, ()),
        ("glu", rewired.Rewired, (8, 4, rewired.halves)),
        ("channel shuffle", rewired.Rewired, (8, 8, rewired.shuffle)),
        ("padded shortcut", tiny_nets.PaddedShortcut, ()),
        ("sliced by hand", tiny_nets.Halves, ()),
        ("rolled channels", tiny_nets.Rolled, ()),
        ("shuffled streams", reshaped.Streams, ()),
        ("view by sizes", reshaped.Laid, (128, reshaped.viewed)),
        ("channels last, flat", reshaped.Laid, (128, reshaped.channels_last)),
        ("tokens", reshaped.Laid, (8, reshaped.tokens)),
        ("hard-coded view", reshaped.Laid, (128, reshaped.hard_coded)),
        ("shared, concatenated", reshaped.Twice, ()),
        ("shared, flat, concatenated", reshaped.Twice, (True,)),
        ("flat, concatenated", reshaped.FlatConcat, ()),
        ("transformer, one qkv", reshaped.Transformer, ()),
        ("transformer, three layers", reshaped.Transformer, (reshaped.Separate,)),
    ),
    **{f"torchvision {name}": (functools.partial(attention_net, name), (3, 32, 32)) for name in ("vit", "swin")},
}
