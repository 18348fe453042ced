import pytest
import torch
from torch import nn

from topocompress.dependencies.heads import HeadAttention, HeadChannels, attention_heads
from topocompress.errors import SurgeryError


class Plain(HeadAttention):
    """Three heads, each two wide, on inputs of five channels; every weight tells where it came from."""

    def __init__(self):
        super().__init__(nn.Linear(5, 18), nn.Linear(6, 5), 2)
        with torch.no_grad():
            self.qkv.weight.copy_(torch.arange(18.0)[:, None].expand(18, 5))
            self.qkv.bias.copy_(torch.arange(18.0))
            self.proj.weight.copy_(torch.arange(6.0).expand(5, 6))


def test_a_head_has_its_queries_keys_and_values_and_what_reads_it():
    layer = Plain()
    assert layer.num_heads == 3
    assert layer.head_channels(0) == HeadChannels(rows=(0, 1, 6, 7, 12, 13), columns=(0, 1))
    assert layer.head_channels(2) == HeadChannels(rows=(4, 5, 10, 11, 16, 17), columns=(4, 5))


def test_the_heads_are_where_the_channels_say():
    layer = Plain()
    parts = layer._by_head(torch.arange(18.0).expand(2, 4, 18))  # (batch, tokens, channels)
    assert [part.shape for part in parts] == [(2, 3, 4, 2)] * 3
    for head in range(3):
        rows = [int(value) for part in parts for value in part[1, head, 3]]
        assert tuple(rows) == layer.head_channels(head).rows


def test_removing_a_head_takes_its_channels_and_leaves_the_rest():
    layer = Plain()
    qkv, proj, bias = layer.qkv, layer.proj, layer.proj.bias
    layer.proj.weight.requires_grad_(False)
    layer.remove_heads([1])
    assert (layer.num_heads, layer.head_dim) == (2, 2)
    assert layer.qkv is qkv
    assert layer.proj is proj  # hooks on them stay
    assert (qkv.in_features, qkv.out_features, proj.in_features, proj.out_features) == (5, 12, 4, 5)
    assert qkv.weight[:, 0].tolist() == qkv.bias.tolist() == [0, 1, 4, 5, 6, 7, 10, 11, 12, 13, 16, 17]
    assert proj.weight[0].tolist() == [0, 1, 4, 5]
    assert proj.bias is bias
    assert [p.requires_grad for p in (qkv.weight, qkv.bias, proj.weight, proj.bias)] == [True, True, False, True]
    assert layer.head_channels(1) == HeadChannels(rows=(2, 3, 6, 7, 10, 11), columns=(2, 3))


def test_heads_are_counted_among_those_left():
    layer = Plain()
    layer.remove_heads([0])
    layer.remove_heads([0])
    assert layer.qkv.bias.tolist() == [4, 5, 10, 11, 16, 17]


def test_removing_nothing_changes_nothing():
    layer = Plain()
    layer.remove_heads([])
    assert layer.num_heads == 3
    assert torch.equal(layer.qkv.bias, torch.arange(18.0))


@pytest.mark.parametrize("heads", [[3], [-1], [0, 7]])
def test_a_head_that_is_not_there_cannot_go(heads):
    layer = Plain()
    with pytest.raises(SurgeryError, match="heads 0 to 2"):
        layer.remove_heads(heads)
    assert layer.num_heads == 3


@pytest.mark.parametrize("heads", [[0, 1, 2], (2, 1, 0, 0)])
def test_one_head_must_stay(heads):
    layer = Plain()
    with pytest.raises(SurgeryError, match="At least one must stay"):
        layer.remove_heads(heads)
    assert layer.qkv.out_features == 18


def test_layers_with_heads_are_found_by_name():
    model = nn.Sequential(nn.Linear(2, 2), nn.ModuleDict({"inner": Plain()}), Plain())
    assert attention_heads(model) == {"1.inner": model[1]["inner"], "2": model[2]}
    assert attention_heads(nn.Linear(2, 2)) == {}
