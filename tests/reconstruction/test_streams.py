"""Sums that layers' outputs go into."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from topocompress.network.inference import evaluating
from topocompress.reconstruction.streams import Holding, Stream, order_of


class Net(nn.Module):
    def __init__(self, run):
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
        self.norm, self.relu = nn.BatchNorm2d(2), nn.ReLU(inplace=True)
        self.run = run

    def forward(self, x):
        return self.run(self, x)


def block(n, x):
    kept = F.relu(n.a(x))
    return n.norm(n.b(kept)) + kept


def added_in_place(n, x):
    out = F.dropout(n.b(n.relu(n.a(x))), training=False)
    out += x
    return out


def read_twice(n, x):
    y = n.a(x)
    return F.relu(y) + (y + x)


CASES = {
    "through a norm": (block, {"b": ("norm", 1)}),
    "to the input, in place": (added_in_place, {"b": ("", -1)}),
    "the first summand made later": (lambda n, x: n.a(x) + n.b(x), {"b": ("", 0)}),
    "a number": (lambda n, x: n.a(x) + 1, {}),
    "another shape": (lambda n, x: n.a(x) + x.mean((2, 3), keepdim=True), {}),
    "after an activation": (lambda n, x: F.relu(n.a(x)) + x, {}),
    "a sum made later": (lambda n, x: n.a(x) + (x + 1), {}),
    "read twice": (read_twice, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_sum_is_found(name):
    run, expected = CASES[name]
    model = Net(run)
    order = order_of(model, torch.randn(1, 2, 3, 3), ["a", "b"])
    assert order.streams == {layer: Stream(norm=norm, other=other) for layer, (norm, other) in expected.items()}
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("name", ["through a norm", "to the input, in place", "the first summand made later"])
def test_what_is_held_is_the_other_summand(name):
    run, _ = CASES[name]
    model, x = Net(run), torch.randn(2, 2, 3, 3)
    order = order_of(model, x[:1], ["a", "b"])
    stream = order.streams["b"]
    with evaluating(model):
        with Holding(x, {stream.other}) as holding:
            total = model(x)
        mine = model.b(F.relu(model.a(x)) if "the first" not in name else x)
        mine = model.norm(mine) if stream.norm else mine
        torch.testing.assert_close(holding.outputs[stream.other] + mine, total)


def test_layers_come_in_the_order_in_which_they_run_and_only_if_once():
    model = Net(lambda n, x: n.b(n.a(n.b(x))))
    assert order_of(model, torch.randn(1, 2, 3, 3), ["b", "a"]).layers == ("a",)


class Otherwise(nn.Conv2d):
    def __init__(self, run):
        super().__init__(2, 2, 1)
        self.run = run

    def forward(self, inputs):
        return self.run(self, inputs)


@pytest.mark.parametrize(
    ("run", "counts"),
    [
        (lambda conv, x: F.conv2d(x.flip(2), conv.weight, conv.bias), True),
        (lambda conv, x: F.conv2d(x, bias=conv.bias, weight=conv.weight, padding="same"), True),
        (lambda conv, x: 2 * F.conv2d(x, conv.weight, conv.bias), False),
        (lambda conv, x: F.conv2d(x, conv.weight / conv.weight.std(), conv.bias), False),
        (lambda conv, x: F.conv2d(x, conv.weight), False),
        (lambda conv, x: F.conv2d(F.conv2d(x, conv.weight, conv.bias), conv.weight, conv.bias), False),
        (lambda conv, x: x.clone(), False),
    ],
)
def test_a_layer_with_a_forward_of_its_own_counts_if_it_gives_what_its_weights_make(run, counts):
    model = nn.Sequential(Otherwise(run))
    assert order_of(model, torch.randn(1, 2, 3, 3), ["0"]).layers == (("0",) if counts else ())
