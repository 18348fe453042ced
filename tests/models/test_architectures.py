from __future__ import annotations

import pytest
import torch
from torch import nn

from topocompress.errors import ModelError
from topocompress.models.architectures import _WithoutMemory, build, is_known, of_kind, shapes_of, torchvision_names
from topocompress.types import Architecture


@pytest.mark.parametrize(("name", "near"), [("resnet81", "resnet18"), ("ResNet18", "resnet18"), ("digit", "digits")])
def test_unknown_name_lists_near_ones(name, near):
    assert not is_known(name)
    with pytest.raises(ModelError, match="unknown architecture") as caught:
        build(of_kind(name, {}))
    assert near in caught.value.hint


def test_options_that_do_not_fit():
    with pytest.raises(ModelError, match="cannot build squeezenet1_1"):
        build(of_kind("squeezenet1_1", {"colour": "red"}))


def test_object_cannot_be_built():
    with pytest.raises(ModelError, match="only the caller can build"):
        build(Architecture(kind="object", name="Net"))


# --- input channels


def test_a_grey_network_is_torchvisions_but_for_its_first_layer():
    grey, colour = (build(of_kind("resnet18", {"num_classes": 5, **extra})) for extra in ({"in_channels": 1}, {}))
    assert repr(grey.conv1) == repr(colour.conv1).replace("Conv2d(3,", "Conv2d(1,")
    grey.conv1 = colour.conv1
    assert repr(grey) == repr(colour)


@pytest.mark.parametrize(
    ("name", "channels"), [("vit_b_32", 1), ("googlenet", 1), ("shufflenet_v2_x0_5", 1), ("shufflenet_v2_x0_5", 4)]
)
def test_networks_with_other_input_channels_run(name, channels):
    extra = {"transform_input": False, "aux_logits": False} if name == "googlenet" else {}
    module = build(of_kind(name, {"in_channels": channels, "num_classes": 3, **extra}))
    with torch.inference_mode():
        assert module(torch.zeros(1, channels, 224, 224)).shape == (1, 3)


def test_input_channels_change_one_weight_of_every_architecture():
    for name in torchvision_names():
        plain, grey = shapes_of(name, ()), shapes_of(name, (("in_channels", 1),))
        assert plain.keys() == grey.keys()
        ((before, after),) = [(plain[key], grey[key]) for key in plain if plain[key] != grey[key]]
        assert (before[1], after) == (3, (before[0], 1, *before[2:])), name


@pytest.mark.parametrize("channels", [0, -1, 1.5, "grey"])
def test_impossible_input_channels(channels):
    with pytest.raises(ModelError, match="in_channels is"):
        build(of_kind("squeezenet1_1", {"in_channels": channels}))


@pytest.mark.parametrize("name", ["squeezenet1_1", "regnet_y_400mf", "shufflenet_v2_x0_5", "vit_b_32"])
def test_shapes_are_those_of_the_built_network(name):
    module = build(of_kind(name, {"num_classes": 7}))
    found = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    assert shapes_of(name, (("num_classes", 7),)) == found


def test_only_parameters_go_without_memory():
    with _WithoutMemory():
        assert torch.empty(2).fill_(1).is_meta
        assert torch.arange(3.0).add_(1).tolist() == [1, 2, 3]  # as RegNet computes its widths


def test_built_networks_are_filled():
    first, second = (build(of_kind("squeezenet1_1", {"num_classes": 7})) for _ in range(2))
    shapes_of("squeezenet1_1", (("num_classes", 8),))
    for module in (first, second):
        assert all(bool(p.isfinite().all()) and p.device.type == "cpu" for p in module.parameters())
        assert module.features[0].weight.std() > 0.05


# --- factories

FACTORY = """
from torch import nn

def net(num_classes=2):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4, num_classes))

def number():
    return 3
"""


@pytest.fixture
def factory(tmp_path, monkeypatch):
    (tmp_path / "topocompress_test_architecture.py").write_text(FACTORY, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return "topocompress_test_architecture"


def test_a_network_of_the_users_own(factory):
    module = build(of_kind(f"{factory}:net", {"num_classes": 5}))
    assert isinstance(module, nn.Module)
    assert not module.training
    assert module(torch.zeros(1, 3, 8, 8)).shape == (1, 5)


def test_a_factory_that_returns_no_network(factory):
    with pytest.raises(ModelError, match="returned int, not"):
        build(of_kind(f"{factory}:number", {}))


def test_a_factory_that_does_not_take_the_options(factory):
    with pytest.raises(ModelError, match="net cannot be called with width=3"):
        build(of_kind(f"{factory}:net", {"width": 3}))


def test_building_leaves_the_random_state(factory):
    before = torch.get_rng_state()
    build(of_kind(f"{factory}:net", {}))
    build(of_kind("squeezenet1_1", {"in_channels": 1}))
    assert torch.equal(before, torch.get_rng_state())
