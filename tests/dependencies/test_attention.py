import copy

import pytest
import torch
from torch import nn
from torchvision.models.maxvit import RelativePositionalMultiHeadAttention
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2

from tests.helpers.attention_nets import NETWORKS, attention_net, images, randomised
from topocompress.dependencies.attention import make_explicit
from topocompress.dependencies.heads import attention_heads
from topocompress.deploy.export import export_onnx
from topocompress.errors import ModelError

PROJECTIONS = {  # what torch and torchvision call our `proj`
    nn.MultiheadAttention: "out_proj",
    ShiftedWindowAttention: "proj",
    ShiftedWindowAttentionV2: "proj",
    RelativePositionalMultiHeadAttention: "merge",
}
HEADS = {"vit": [4, 4], "swin": [2, 2, 4, 4], "swin_v2": [2, 2, 4, 4], "maxvit": [2, 2, 4, 4]}


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


# --- heads go ---


@pytest.mark.parametrize("name", NETWORKS)
def test_without_heads_a_network_computes_what_it_did_when_nobody_read_them(name):
    model = attention_net(name)
    layers = attention_heads(explicit(model)).items()
    heads = {path: [index % layer.num_heads] for index, (path, layer) in enumerate(layers)}
    smaller = without(model, heads)
    assert [layer.num_heads for layer in attention_heads(smaller).values()] == [count - 1 for count in HEADS[name]]
    expected = outputs(masked(model, heads), images())
    assert difference(outputs(smaller, images()), expected) < 1e-5
    assert difference(outputs(model, images()), expected) > 1e-3
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("heads", [[], [0], [1], [2], [0, 1], [2, 0], [1, 2]])
def test_any_heads_can_go_from_any_layer(name, heads):
    build, shape = LAYERS[name]
    model = build()
    found = outputs(without(model, {"layer": heads}), noise(*shape))
    expected = outputs(masked(model, {"layer": heads}), noise(*shape))
    if isinstance(found, tuple):
        found, expected = found[0], expected[0]
    assert difference(found, expected) < 1e-12


@pytest.mark.parametrize("name", LAYERS)
def test_heads_that_go_one_by_one_are_gone_as_if_at_once(name):
    build, _ = LAYERS[name]
    one_by_one = explicit(build())
    at_once = copy.deepcopy(one_by_one)
    one_by_one.layer.remove_heads([0])
    one_by_one.layer.remove_heads([1])
    at_once.layer.remove_heads([0, 2])
    expected = at_once.state_dict()
    assert [*one_by_one.state_dict()] == [*expected]
    assert all(torch.equal(tensor, expected[key]) for key, tensor in one_by_one.state_dict().items())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_state_dict_fits_a_copy_that_was_treated_alike(name):
    model = attention_net(name)
    heads = {path: [0] for path in attention_heads(explicit(model))}
    smaller = without(model, heads)
    with torch.no_grad():
        for parameter in smaller.parameters():
            parameter.mul_(1.01)
    other = without(model, heads)
    other.load_state_dict(smaller.state_dict())
    assert torch.equal(outputs(other, images()), outputs(smaller, images()))
    assert torch.equal(outputs(copy.deepcopy(smaller), images()), outputs(smaller, images()))


# --- training ---


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_the_original(name):
    model = attention_net(name).double()
    replaced = copy.deepcopy(model)
    twins = dict(zip(model.parameters(), replaced.parameters(), strict=True))
    make_explicit(replaced)
    for network in (model, replaced):
        network(images(dtype=torch.float64)).pow(2).sum().backward()
    for ours, twin in twins.items():
        assert torch.allclose(twin.grad, ours.grad, rtol=1e-9, atol=1e-12)


def test_the_bias_of_cosine_keys_is_neither_used_nor_trained():
    model = explicit(windows(ShiftedWindowAttentionV2))
    x = noise(2, 8, 8, 12)
    before = outputs(model, x)
    model(x).sum().backward()
    queries, keys, values = model.layer.qkv.bias.grad.chunk(3)
    assert keys.abs().max() == 0
    assert min(queries.abs().max(), values.abs().max()) > 0
    with torch.no_grad():
        model.layer.qkv.bias[12:24] = 1e6
    assert torch.equal(outputs(model, x), before)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_smaller_network_learns(name):
    model = attention_net(name)
    smaller = without(model, {path: [0] for path in attention_heads(explicit(model))})
    labels = torch.tensor([0, 1, 2, 3])
    optimizer = torch.optim.SGD(smaller.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        loss = nn.functional.cross_entropy(smaller(images(4)), labels)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in smaller.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[0]


@pytest.mark.parametrize("weights", [True, False])
def test_multihead_attention_drops_weights_in_training_only(weights):
    model, x = multihead(dropout=0.5, batch_first=True), noise(2, 5, 12)
    replaced = explicit(model)
    assert torch.allclose(outputs(replaced, x, need_weights=weights)[0], outputs(model, x)[0])
    found = []
    for network in (model.train(), replaced.train()):
        torch.manual_seed(5)
        found.append(outputs(network, x, need_weights=weights)[0])
    assert difference(*found) < 1e-13  # the same random numbers
    assert difference(found[1], outputs(model.eval(), x)[0]) > 1e-3


@pytest.mark.parametrize("kind", [ShiftedWindowAttention, ShiftedWindowAttentionV2])
def test_windows_drop_weights_in_training_only(kind):
    model, x = windows(kind, attention_dropout=0.5), noise(2, 8, 8, 12)
    replaced = explicit(model)
    found = []
    for network in (model.train(), replaced.train()):
        torch.manual_seed(5)
        found.append(outputs(network, x))
    assert difference(*found) < 1e-13
    assert difference(found[1], outputs(replaced.eval(), x)) > 1e-3


@pytest.mark.parametrize("kind", [ShiftedWindowAttention, ShiftedWindowAttentionV2])
def test_windows_drop_outputs_in_training_only(kind):
    model, x = explicit(windows(kind, dropout=0.5)), noise(2, 9, 9, 12)
    expected = outputs(model, x)
    found = outputs(model.train(), x)
    dropped = found == 0
    assert torch.allclose(found[~dropped], 2 * expected[~dropped])
    assert 0.4 < dropped.double().mean() < 0.6


# --- export ---


class Both(nn.Module):
    """One export instead of two, each of whose outputs is compared."""

    def __init__(self, whole, smaller):
        super().__init__()
        self.whole, self.smaller = whole, smaller

    def forward(self, x):
        return self.whole(x), self.smaller(x)


@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_runtime_computes_the_same_with_all_heads_and_with_fewer(name, tmp_path):
    model = attention_net(name, stages=1)
    whole = explicit(model)
    heads = {path: [layer.num_heads - 1] for path, layer in attention_heads(whole).items()}
    smaller = without(model, heads)
    # The same code computes all heads and fewer; one network shows both, the cheapest to export.
    net = Both(whole, smaller) if name == "vit" else smaller
    check = export_onnx(net, tmp_path / "net.onnx", samples=images(3))
    assert check.max_rel < 1e-5
    assert check.top1_agreement == 1
