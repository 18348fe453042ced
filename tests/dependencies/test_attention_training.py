"""Attention that was replaced trains as the original does."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2

from tests.helpers.attention_layers import difference, explicit, multihead, noise, outputs, windows, without
from tests.helpers.attention_nets import NETWORKS, attention_net, images
from topocompress.dependencies.attention import make_explicit
from topocompress.dependencies.heads import attention_heads


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
