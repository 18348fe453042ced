"""Single layers with attention, their replacement, and their heads masked or removed."""

import copy

import torch
from torch import nn
from torchvision.models.maxvit import RelativePositionalMultiHeadAttention
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2

from tests.helpers.attention_nets import randomised
from topocompress.dependencies.attention import make_explicit
from topocompress.dependencies.heads import attention_heads

PROJECTIONS = {  # what torch and torchvision call our `proj`
    nn.MultiheadAttention: "out_proj",
    ShiftedWindowAttention: "proj",
    ShiftedWindowAttentionV2: "proj",
    RelativePositionalMultiHeadAttention: "merge",
}


class Alone(nn.Module):
    """An attention layer with something around it, so that it can be replaced."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.tensors = 3 if isinstance(layer, nn.MultiheadAttention) else 1  # as many as it is called with

    def forward(self, x, **settings):
        return self.layer(*[x] * self.tensors, **settings)


def windows(kind=ShiftedWindowAttention, window=(4, 4), shift=(2, 2), **settings):
    model = randomised(Alone(kind(12, list(window), list(shift), 3, **settings)).double())
    if kind is ShiftedWindowAttentionV2:
        with torch.no_grad():  # the last one is beyond where it is cut off
            model.layer.logit_scale.copy_(torch.tensor([-1.0, 2.0, 6.0]).view(3, 1, 1))
    return model


def partitions():
    return randomised(Alone(RelativePositionalMultiHeadAttention(12, 4, 9)).double())


def multihead(**settings):
    return randomised(Alone(nn.MultiheadAttention(12, 3, **settings)).double())


LAYERS = {
    "multihead": (lambda: multihead(batch_first=True), (2, 5, 12)),
    "sequence first": (multihead, (5, 2, 12)),
    "without bias": (lambda: multihead(bias=False), (5, 2, 12)),
    "window": (windows, (2, 9, 7, 12)),
    "cosine window": (lambda: windows(ShiftedWindowAttentionV2), (2, 9, 7, 12)),
    "window without bias": (lambda: windows(qkv_bias=False, proj_bias=False), (2, 8, 8, 12)),
    "cosine window without bias": (lambda: windows(ShiftedWindowAttentionV2, qkv_bias=False), (2, 8, 8, 12)),
    "partition": (partitions, (2, 3, 9, 12)),
}


def explicit(model):
    copied = copy.deepcopy(model)
    make_explicit(copied)
    return copied


def masked(model, heads):
    """The original, in which nobody reads the heads; ``heads`` by the attention layer's name."""
    copied = copy.deepcopy(model)
    for name, gone in heads.items():
        layer = copied.get_submodule(name)
        projection = getattr(layer, PROJECTIONS[type(layer)])
        width = projection.in_features // (layer.n_heads if hasattr(layer, "n_heads") else layer.num_heads)
        with torch.no_grad():
            for head in gone:
                projection.weight[:, head * width : (head + 1) * width] = 0
    return copied


def without(model, heads):
    copied = explicit(model)
    for name, gone in heads.items():
        attention_heads(copied)[name].remove_heads(gone)
    return copied


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def difference(found, expected):
    """Largest difference, relative to the largest expected value."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert expected.abs().max() > 1e-3
    return float((found - expected).abs().max() / expected.abs().max())


def outputs(model, x, **settings):
    with torch.no_grad():
        return model(x, **settings)
