import copy

import pytest
import torch
from torch import nn
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2

from tests.helpers.attention_layers import (
    PROJECTIONS,
    Alone,
    difference,
    explicit,
    masked,
    multihead,
    noise,
    outputs,
    windows,
)
from tests.helpers.attention_nets import HEADS, NETWORKS, attention_net, images, randomised
from topocompress.dependencies.attention import make_explicit
from topocompress.dependencies.heads import attention_heads
from topocompress.errors import ModelError

# --- the same function ---


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_computes_the_same_after_replacement(name):
    model = attention_net(name)
    replaced = explicit(model)
    assert [layer.num_heads for layer in attention_heads(replaced).values()] == HEADS[name]
    assert not [module for module in replaced.modules() if type(module) in PROJECTIONS]
    assert difference(outputs(replaced, images()), outputs(model, images())) < 2e-6
    double, exact = copy.deepcopy(model).double(), images(dtype=torch.float64)
    assert difference(outputs(explicit(double), exact), outputs(double, exact)) < 1e-13


@pytest.mark.parametrize("kind", [ShiftedWindowAttention, ShiftedWindowAttentionV2])
@pytest.mark.parametrize("shift", [(0, 0), (2, 2), (1, 0), (0, 2), (1, 3)])
@pytest.mark.parametrize("size", [(8, 8), (9, 7), (4, 8), (8, 3), (2, 3)])
def test_windows_are_cut_shifted_and_padded_alike(kind, shift, size):
    model, x = windows(kind, shift=shift), noise(2, *size, 12)
    assert difference(outputs(explicit(model), x), outputs(model, x)) < 1e-13


@pytest.mark.parametrize("kind", [ShiftedWindowAttention, ShiftedWindowAttentionV2])
def test_a_window_need_not_be_square(kind):
    model, x = windows(kind, window=(2, 5), shift=(1, 2)), noise(2, 7, 11, 12)
    assert difference(outputs(explicit(model), x), outputs(model, x)) < 1e-13


def masks():
    """(Mask between tokens, mask of padding), by what they are."""
    generator = torch.Generator().manual_seed(4)
    between = torch.rand(5, 5, generator=generator) < 0.4
    between.fill_diagonal_(False)
    padded = torch.tensor([[False] * 5, [False] * 4 + [True]])
    between[:, 0] = False  # every token sees another one
    return {
        "none": (None, None),
        "between": (between, None),
        "padding": (None, padded),
        "both": (between, padded),
        "added": (noise(5, 5), noise(2, 5)),
    }


@pytest.mark.parametrize("mask", masks())
@pytest.mark.parametrize("weights", ["none", "mean", "each"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_masks_and_weights_of_multihead_attention(mask, weights, batch_first):
    model, x = multihead(batch_first=batch_first), noise(2, 5, 12) if batch_first else noise(5, 2, 12)
    between, padded = masks()[mask]
    settings = {"need_weights": weights != "none", "average_attn_weights": weights == "mean"}
    settings |= {"attn_mask": between, "key_padding_mask": padded}
    expected, expected_weights = outputs(model, x, **settings)
    found, found_weights = outputs(explicit(model), x, **settings)
    assert difference(found, expected) < 1e-13
    if weights == "none":
        assert found_weights is None
    else:
        assert difference(found_weights, expected_weights) < 1e-13


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_multihead_attention_without_a_batch(weights, bias):
    model, x = multihead(bias=bias), noise(5, 12)
    for found, expected in zip(
        outputs(explicit(model), x, need_weights=weights), outputs(model, x, need_weights=weights), strict=True
    ):
        if expected is None:
            assert found is None
        else:
            assert difference(found, expected) < 1e-13


def test_a_causal_mask_is_taken_from_the_mask():
    model, x = multihead(batch_first=True), noise(2, 5, 12)
    settings = {"attn_mask": torch.ones(5, 5).triu(1).bool(), "is_causal": True, "need_weights": False}
    assert difference(outputs(explicit(model), x, **settings)[0], outputs(model, x, **settings)[0]) < 1e-13
    with pytest.raises(ModelError, match="without attn_mask"):
        outputs(explicit(model), x, is_causal=True)


@pytest.mark.parametrize("norm_first", [True, False])
def test_an_encoder_layer_of_torch_takes_the_replacement(norm_first):
    layer = nn.TransformerEncoderLayer(12, 2, 20, norm_first=norm_first, batch_first=True)
    model, x = randomised(nn.Sequential(layer).double()), noise(2, 5, 12)
    replaced = explicit(model)
    expected = outputs(model, x)
    assert difference(outputs(replaced, x), expected) < 1e-13
    attention_heads(replaced)["0.self_attn"].remove_heads([0])
    assert difference(outputs(replaced, x), expected) > 1e-3  # it is this layer that computes
    assert difference(outputs(replaced, x), outputs(masked(model, {"0.self_attn": [0]}), x)) < 1e-13


# --- what cannot be replaced ---


def test_attention_between_different_tensors_is_refused_when_called():
    model = explicit(multihead())
    x = noise(5, 2, 12)
    for key, value in [(x, x.clone()), (x.clone(), x)]:
        with pytest.raises(ModelError, match="different queries, keys and values"):
            model.layer(x, key, value)


def test_a_mask_per_head_is_refused_when_called():
    model = explicit(multihead())
    with pytest.raises(ModelError, match="mask per head"):
        outputs(model, noise(5, 2, 12), attn_mask=torch.zeros(6, 5, 5))


class Other(nn.MultiheadAttention):
    """Might compute anything."""


def hooked():
    layer = nn.MultiheadAttention(12, 3)
    layer.register_forward_hook(lambda *_: None)
    return layer


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.MultiheadAttention(12, 3, kdim=6),
        lambda: nn.MultiheadAttention(12, 3, vdim=6),
        lambda: nn.MultiheadAttention(12, 3, add_bias_kv=True),
        lambda: nn.MultiheadAttention(12, 3, add_zero_attn=True),
        lambda: Other(12, 3),
        hooked,
    ],
)
def test_what_is_not_supported_stays(build):
    layer = build()
    model = Alone(layer)
    make_explicit(model)
    assert model.layer is layer


# --- nothing else changes ---


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_modes_random_state_and_names_stay(name):
    model = attention_net(name).train()
    frozen = [module for module in model.modules() if type(module) in PROJECTIONS][1]
    frozen.eval()
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)
    layers = {module: path for path, module in model.named_modules() if type(module) in PROJECTIONS}
    parameters, buffers = set(model.parameters()), {id(buffer) for buffer in model.buffers()}
    random = torch.get_rng_state()
    make_explicit(model)
    assert torch.equal(torch.get_rng_state(), random)
    found = attention_heads(model)
    assert list(found) == list(layers.values())
    assert set(model.parameters()) == parameters  # the very same objects
    assert {id(buffer) for buffer in model.buffers()} == buffers
    for layer, path in layers.items():
        new = model.get_submodule(path)
        trained = layer is not frozen
        assert {module.training for module in (new, new.qkv, new.proj)} == {trained}
        assert {parameter.requires_grad for parameter in new.parameters()} == {trained}
    assert type(found[path].proj) is nn.Linear
    make_explicit(model)
    assert attention_heads(model) == found


def test_a_layer_that_is_used_twice_stays_one_layer():
    layer = nn.MultiheadAttention(12, 3)
    model = nn.ModuleDict({"first": layer, "inner": nn.ModuleList([layer, nn.Identity()]), "again": layer})
    make_explicit(model)
    assert model["first"] is model["again"] is model["inner"][0]
    assert list(attention_heads(model)) == ["first"]


@pytest.mark.parametrize(("name", "inputs"), [("vit", 3), ("swin", 4), ("swin_v2", 4), ("maxvit", 4)])
def test_hooks_see_both_projections_once_and_by_image(name, inputs):
    model = explicit(attention_net(name))
    seen = []
    for layer in attention_heads(model).values():
        for linear in (layer.qkv, layer.proj):
            linear.register_forward_hook(lambda module, _, output: seen.append((module, output.shape)))
    outputs(model, images(3))
    assert [module for module, _ in seen] == [
        linear for layer in attention_heads(model).values() for linear in (layer.qkv, layer.proj)
    ]
    assert {(len(shape), shape[0]) for _, shape in seen} == {(inputs, 3)}
    assert all(shape[-1] == module.out_features for module, shape in seen)
