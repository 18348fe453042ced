"""Factories that do not give the same network every time, or one without values."""

import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from topocompress.errors import ModelError
from topocompress.models.loading import load_model

SHAPE = (1, 8, 8)
_drawn = np.random.default_rng()


class Net(nn.Module):
    input_shape = SHAPE

    def __init__(self, width=4):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, width, 3), nn.Linear(width, 3)

    def read(self, x):
        return x

    def forward(self, x):
        return self.head(self.read(self.conv(x).relu()).mean((2, 3)))


class Picked(Net):
    """An order of channels that is drawn, and kept nowhere."""

    def __init__(self):
        super().__init__()
        self.scale = torch.from_numpy(_drawn.uniform(0.5, 2, 4)).float()

    def read(self, x):
        return x * self.scale[:, None, None]


class Fleeting(Net):
    """A buffer that is drawn, and not among the weights."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.rand(4) + 0.5, persistent=False)

    def read(self, x):
        return x * self.scale[:, None, None]


class Counting(Net):
    """Computes something else the second time."""

    runs = 0

    def read(self, x):
        self.runs += 1
        return x * self.runs


class Kept(Picked):
    def __init__(self):
        super().__init__()
        scale = self.scale
        del self.scale
        self.register_buffer("scale", scale)


class Chance(Net):
    """Draws while it runs, as dropout does that is never turned off."""

    def read(self, x):
        return nn.functional.dropout(x, 0.5)


def wider(step=[0]):  # noqa: B006 - another one each time is the point
    step[0] += 1
    return Net(4 + step[0])


def empty():
    with torch.device("meta"):
        return Net()


class PackedHead(nn.Module):
    """Keeps its weights as quantised layers do, with more than tensors in the state."""

    input_shape = SHAPE

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        destination[prefix + "packed.dtype"] = torch.qint8

    def forward(self, x):
        return x.flatten(1)


ONE = Net()


@pytest.fixture
def named(monkeypatch):
    module = types.ModuleType("rebuilt_nets")
    module.__dict__.update(globals())
    module.same = lambda: ONE
    monkeypatch.setitem(sys.modules, "rebuilt_nets", module)
    return "rebuilt_nets:{}".format


@pytest.mark.parametrize("name", ["Picked", "Fleeting", "Counting"])
def test_a_network_that_computes_something_else_each_time_is_refused(name, named):
    with pytest.raises(ModelError, match=r"computes something else each time.*\n.*register_buffer"):
        load_model(named(name))


def test_a_network_that_has_another_width_each_time_is_refused(named):
    with pytest.raises(ModelError, match="other weights each time"):
        load_model(named("wider"))


@pytest.mark.parametrize("name", ["Net", "Kept", "Chance", "same"])
def test_what_is_drawn_for_weights_or_while_running_is_no_matter(name, named):
    before = torch.get_rng_state()
    assert isinstance(load_model(named(name)).module, Net)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "said"),
    [("empty", "has no values yet"), ("PackedHead", "packed.dtype is a dtype")],
)
def test_a_network_without_values_or_with_packed_ones_is_refused(name, said, named):
    with pytest.raises(ModelError, match=said):
        load_model(named(name))


def test_a_factory_that_gives_one_network_every_time_gives_each_caller_a_copy(named, tmp_path):
    weights = {name: value + 1 for name, value in ONE.state_dict().items()}
    torch.save(weights, tmp_path / "other.pt")
    before = {name: value.clone() for name, value in ONE.state_dict().items()}
    first = load_model(named("same"))
    second = load_model(tmp_path / "other.pt", arch=named("same"))
    assert first.module is not ONE
    for name, value in before.items():
        assert torch.equal(ONE.state_dict()[name], value)
        assert torch.equal(first.module.state_dict()[name], value)
        assert torch.equal(second.module.state_dict()[name], weights[name])
