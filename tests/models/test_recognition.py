from __future__ import annotations

import pytest
import torch
from torchvision import models

from topocompress.errors import ModelError
from topocompress.models.architectures import build, shapes_of, torchvision_names
from topocompress.models.digits import DigitsNet
from topocompress.models.families import FAMILY, built_top_level, keys_of, top_level
from topocompress.models.recognition import (
    _plain,
    infer_architecture,
    recognise,
)
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


@pytest.mark.parametrize(
    "name", ["lraspp_mobilenet_v3_large", "ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_fpn"]
)
def test_finds_segmentation_networks_and_detectors(name):
    found = recognise(state_of(name, weights_backbone=None, num_classes=7))
    assert (found.architecture.name, found.architecture.options["num_classes"]) == (name, 7)
    assert ("fasterrcnn_mobilenet_v3_large_320_fpn" in found.note) == name.startswith("fasterrcnn")  # its twin
    assert not recognise(found.state, name).note  # who names it knows


def test_the_auxiliary_head_of_a_segmentation_network_is_dropped():
    state = state_of("deeplabv3_mobilenet_v3_large", weights_backbone=None, aux_loss=True)
    found = recognise(state, "deeplabv3_mobilenet_v3_large")
    assert found.architecture.options["num_classes"] == 21
    assert not any(key.startswith("aux_classifier") for key in found.state)
    assert "auxiliary heads dropped" in found.note


def test_finds_the_shipped_network():
    assert infer_architecture(DigitsNet(4).state_dict()) == Architecture(
        kind="builtin", name="digits", options={"num_classes": 4}
    )


@pytest.fixture
def built():
    """Number of networks built since."""
    shapes_of.cache_clear()
    built_top_level.cache_clear()
    return lambda: shapes_of.cache_info().misses


def test_few_networks_are_built_to_find_one(built):
    infer_architecture(state_of("resnet18", num_classes=10))
    assert 0 < built() < 10


def test_few_networks_are_built_to_find_none(built):
    with pytest.raises(ModelError, match=r"none has modules like those of a\.weight, b\.weight"):
        recognise({"a.weight": torch.zeros(2, 3), "b.weight": torch.zeros(1)})
    assert built() == 0


def test_few_networks_are_built_to_find_none_in_another_release(built, monkeypatch):
    monkeypatch.setattr("topocompress.models.families._known_families", dict)
    with pytest.raises(ModelError, match="none has modules like those"):
        recognise({"a.weight": torch.zeros(2, 3)})
    assert 0 < built() < 35 < len(torchvision_names())


def test_a_family_shares_its_top_level_names():
    # Whoever lacks these is not compared with the family's other members.
    for name in torchvision_names():
        assert top_level(keys_of(_plain(name))) == built_top_level(FAMILY.findall(name)[0]), name


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
    monkeypatch.setattr("topocompress.models.recognition.torchvision_names", lambda: few)
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


# --- input channels


@pytest.mark.parametrize(
    ("name", "first"),
    [("resnet18", "conv1.weight"), ("mobilenet_v3_small", "features.0.0.weight"), ("vit_b_32", "conv_proj.weight")],
)
@pytest.mark.parametrize(("channels", "words"), [(1, "1 input channel instead of 3"), (4, "4 input channels instead")])
@pytest.mark.parametrize("classes", [6, 1000])
def test_other_input_channels(name, first, channels, words, classes):
    state = state_of(name, num_classes=classes)
    state[first] = state[first].mean(1, keepdim=True).repeat(1, channels, 1, 1)
    found = recognise(state)
    assert found.architecture == Architecture(
        kind="torchvision", name=name, options={"in_channels": channels, "num_classes": classes}
    )
    assert words in found.note
    assert "--mean" in found.note
    assert recognise(state, name).architecture == found.architecture
    build(found.architecture).load_state_dict(found.state)


def test_a_colour_network_gets_no_such_option_and_no_note():
    found = recognise(state_of("resnet18"))
    assert found.architecture.options == {"num_classes": 1000}
    assert found.note == ""


def test_a_grey_inception_transforms_no_colours():
    state = state_of("inception_v3", num_classes=1000)
    first = "Conv2d_1a_3x3.conv.weight"
    state[first] = state[first][:, :1]
    found = recognise(state)
    assert found.architecture.options["transform_input"] is False
    assert "transform_input" not in found.note
    assert "auxiliary heads dropped" in found.note
    module = build(found.architecture)
    module.load_state_dict(found.state)
    with torch.inference_mode():
        assert module(torch.zeros(1, 1, 299, 299)).shape == (1, 1000)


def test_another_first_layer_is_not_taken_for_other_channels():
    state = state_of("resnet18")
    state["conv1.weight"] = torch.zeros(64, 1, 3, 3)
    with pytest.raises(ModelError, match=r"conv1\.weight \(64, 1, 3, 3\) instead of \(64, 1, 7, 7\)"):
        recognise(state)
    state["conv1.weight"] = torch.zeros(64, 0, 7, 7)
    with pytest.raises(ModelError, match=r"conv1\.weight \(64, 0, 7, 7\) instead of \(64, 3, 7, 7\)"):
        recognise(state)
