from __future__ import annotations

import copy
import time

import pytest
import torch
from torch import nn
from torchvision import models

from topocompress.architectures import build, infer_architecture, is_known, of_kind, recognise, torchvision_names
from topocompress.digits import DigitsNet
from topocompress.errors import ModelError
from topocompress.types import Architecture


def state_of(name, **options):
    torch.manual_seed(0)
    if name in {"googlenet", "inception_v3"}:
        options["init_weights"] = False
    return models.get_model(name, weights=None, **options).state_dict()


@pytest.mark.parametrize(
    "name", ["squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5", "regnet_y_400mf", "resnet18"]
)
@pytest.mark.parametrize("classes", [7, 1000])
def test_finds_name_and_class_count(name, classes):
    found = infer_architecture(state_of(name, num_classes=classes))
    assert (found.kind, found.name, found.options["num_classes"]) == ("torchvision", name, classes)


def test_names_that_differ_in_depth_or_width_alone():
    for name in ("efficientnet_b1", "efficientnet_b2", "resnet34", "mnasnet0_75", "densenet121"):
        assert infer_architecture(state_of(name, num_classes=3)).name == name


def test_no_two_architectures_share_keys_and_shapes():
    # Equal keys and shapes would mean equal parameter counts; recognising one needs no rule for ties.
    counts = {}
    for name in torchvision_names():
        first = next(iter(models.get_model_weights(name)))
        counts.setdefault(first.meta["num_params"], []).append(name)
    assert [names for names in counts.values() if len(names) > 1] == []


def test_finds_the_shipped_network():
    assert infer_architecture(DigitsNet(4).state_dict()) == Architecture(
        kind="builtin", name="digits", options={"num_classes": 4}
    )


def test_is_fast():
    state = state_of("resnet18", num_classes=10)
    started = time.perf_counter()
    infer_architecture(state)
    assert time.perf_counter() - started < 3


@pytest.mark.parametrize("size", [64, 224])
def test_vision_transformer_image_size(size):
    found = infer_architecture(state_of("vit_b_32", num_classes=5, image_size=size))
    assert found.name == "vit_b_32"
    assert found.options.get("image_size", 224) == size


@pytest.mark.parametrize(("name", "classes"), [("googlenet", 1000), ("googlenet", 6), ("inception_v3", 6)])
@pytest.mark.parametrize("aux", [True, False])
def test_auxiliary_heads_are_dropped(name, classes, aux):
    found = recognise(state_of(name, num_classes=classes, aux_logits=aux))
    assert found.architecture.name == name
    assert found.architecture.options["num_classes"] == classes
    assert found.architecture.options["transform_input"] is (classes == 1000)
    assert ("auxiliary heads dropped" in found.note) is aux
    build(found.architecture).load_state_dict(found.state)  # strict: no key more or less


def test_old_densenet_keys():
    state = state_of("densenet121", num_classes=3)
    old = {
        key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") if "denselayer" in key else key: value
        for key, value in state.items()
    }
    assert set(old) != set(state)
    found = recognise(old)
    assert found.architecture.name == "densenet121"
    assert set(found.state) == set(state)


def test_counters_may_be_missing():
    state = {k: v for k, v in state_of("resnet18").items() if "num_batches_tracked" not in k}
    assert infer_architecture(state).name == "resnet18"


def test_nothing_fits_names_the_nearest_and_the_differences(monkeypatch):
    few = ["alexnet", "mobilenet_v3_small", "resnet18", "resnet34", "resnet50", "vgg11"]
    monkeypatch.setattr("topocompress.architectures.torchvision_names", lambda: few)
    state = state_of("resnet18")
    del state["layer3.0.conv1.weight"]
    state["extra.weight"] = torch.ones(1)
    state["conv1.weight"] = torch.zeros(64, 3, 3, 3)
    with pytest.raises(ModelError) as caught:
        infer_architecture(state)
    for part in (
        "nearest is resnet18",
        "missing layer3.0.conv1.weight",
        "unexpected extra.weight",
        "conv1.weight (64, 3, 3, 3) instead of (64, 3, 7, 7)",
    ):
        assert part in caught.value.what
    assert "--arch NAME" in caught.value.hint
    assert "pkg.module:factory" in caught.value.hint


def test_named_architecture_that_does_not_fit():
    with pytest.raises(ModelError, match="do not fit mobilenet_v2: missing"):
        recognise(state_of("squeezenet1_1"), "mobilenet_v2")


def test_recognising_leaves_the_random_state():
    state = state_of("squeezenet1_1")
    before = torch.get_rng_state()
    build(recognise(state).architecture)
    assert torch.equal(before, torch.get_rng_state())


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


FACTORY = """
import torch
from torch import nn

def net(num_classes=2):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4, num_classes))

def number():
    return 3

def broken():
    raise RuntimeError("disk on fire")

constant = 5
"""


@pytest.fixture
def factory_module(tmp_path, monkeypatch):
    (tmp_path / "topocompress_test_factory.py").write_text(FACTORY)
    (tmp_path / "topocompress_test_faulty.py").write_text("import no_such_package_at_all")
    monkeypatch.chdir(tmp_path)
    return "topocompress_test_factory"


def test_factory_in_the_current_directory(factory_module):
    import sys

    paths = copy.copy(sys.path)
    module = build(of_kind(f"{factory_module}:net", {"num_classes": 5}))
    assert isinstance(module, nn.Module)
    assert not module.training
    assert module(torch.zeros(1, 3, 8, 8)).shape == (1, 5)
    assert sys.path == paths


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("topocompress_test_factory:number", "returned int, not"),
        ("topocompress_test_factory:broken", "disk on fire"),
        ("topocompress_test_factory:constant", "not a callable"),
        ("topocompress_test_factory:nothing", "has no nothing"),
        ("topocompress_test_faulty:net", "no_such_package_at_all"),
        ("no_such_module_at_all:net", "cannot import"),
    ],
)
def test_bad_factories(factory_module, spec, message):
    with pytest.raises(ModelError, match=message):
        build(of_kind(spec, {}))


def test_factory_that_does_not_take_the_options(factory_module):
    with pytest.raises(ModelError, match=r"net\(width=3\) failed"):
        build(of_kind(f"{factory_module}:net", {"width": 3}))


def test_factory_name_of_the_wrong_form():
    with pytest.raises(ModelError, match="not of the form"):
        build(Architecture(kind="factory", name="no-colon-here"))
