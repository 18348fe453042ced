"""Attention without some of its heads computes what the others compute, in ONNX Runtime too."""

import copy

import pytest
import torch
from torch import nn

from tests.helpers.attention_layers import LAYERS, difference, explicit, masked, noise, outputs, without
from tests.helpers.attention_nets import HEADS, NETWORKS, attention_net, images
from topocompress.dependencies.heads import attention_heads
from topocompress.deploy.export import export_onnx

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
    assert check.top1_agreement == (None if name == "vit" else 1)  # one of two outputs is no agreement
