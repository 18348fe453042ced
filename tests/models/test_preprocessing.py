from __future__ import annotations

import json
from dataclasses import replace

import pytest
from torch import nn

from topocompress.errors import ArtifactError, ModelError
from topocompress.models.architectures import build, of_kind, published_weights, torchvision_names
from topocompress.models.digits import DigitsNet
from topocompress.models.preprocessing import default_preprocessing, overridden, published_preprocessing
from topocompress.surgery import run_directory
from topocompress.types import Architecture, Preprocessing

BASE = Preprocessing(input_shape=(3, 224, 224), resize=256)


def default(name, **options):
    return default_preprocessing(of_kind(name, options), nn.Identity())


# --- published weights


def test_published_presets_are_taken_over():
    for name in torchvision_names():
        for member in published_weights(name).values():
            found, preset = published_preprocessing(member), member.transforms()
            side = preset.crop_size[0]
            assert (found.input_shape, found.resize) == ((3, side, side), preset.resize_size[0])
            assert (list(found.mean), list(found.std)) == (list(preset.mean), list(preset.std))
            assert found.interpolation == preset.interpolation.value
            assert preset.antialias


@pytest.mark.parametrize(
    ("name", "size", "resize", "interpolation"),
    [
        ("resnet18", 224, 256, "bilinear"),
        ("efficientnet_b0", 224, 256, "bicubic"),
        ("swin_t", 224, 232, "bicubic"),
        ("inception_v3", 299, 342, "bilinear"),
    ],
)
def test_default_is_that_of_the_first_published_weights(name, size, resize, interpolation):
    found = default(name, num_classes=5)
    assert (found.input_shape, found.resize, found.interpolation) == ((3, size, size), resize, interpolation)


def test_a_vision_transformer_of_another_size():
    assert default("vit_b_32").resize == 256
    found = default("vit_b_32", image_size=64)
    assert (found.input_shape, found.resize) == ((3, 64, 64), None)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_input_channels_take_the_mean_of_the_statistics(channels):
    found = default("efficientnet_b0", in_channels=channels)
    assert (found.input_shape, found.resize) == ((channels, 224, 224), 256)
    assert (found.mean, found.std) == ((0.449,) * channels, (0.226,) * channels)
    assert found.interpolation == "bicubic"
    assert default("vit_b_32", in_channels=channels, image_size=64).input_shape == (channels, 64, 64)


# --- networks of the user's own


def own(module):
    return default_preprocessing(Architecture(kind="factory", name="mine:net"), module)


def test_digits():
    found = default_preprocessing(of_kind("digits", {}), build(of_kind("digits", {})))
    assert found.input_shape == DigitsNet.input_shape
    assert len(found.mean) == len(found.std) == 1


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_channels_follow_from_the_first_convolution(channels):
    found = own(nn.Sequential(nn.Identity(), nn.Conv2d(channels, 2, 3), nn.Conv2d(2, 7, 3)))
    assert found.input_shape == (channels, 224, 224)
    assert len(found.mean) == len(found.std) == channels
    assert (found.resize == 256) is (channels == 3)


def test_without_a_convolution_the_input_is_a_colour_image():
    assert own(nn.Linear(2, 2)) == BASE


def test_an_input_shape_of_its_own():
    module = nn.Identity()
    module.input_shape = [3, 20, 28]
    assert own(module) == Preprocessing(input_shape=(3, 20, 28))


@pytest.mark.parametrize("shape", [(3, "big", 4), (3,), (3, 2, 2, 2, 2), (0, 20, 20), (3, 20.0, 20)])
def test_an_input_shape_that_is_none(shape):
    module = nn.Identity()
    module.input_shape = shape
    with pytest.raises(ModelError, match=r"mine:net\.input_shape is"):
        own(module)


# --- what the user sets instead


def changed(**options):
    return overridden(BASE, **{"input_size": None, "mean": None, "std": None, "resize": None, **options})


def test_nothing_set_changes_nothing():
    assert changed() is BASE


def test_overrides():
    found = changed(input_size=(64, 96), resize=100, mean=[0.5], std=[0.1, 0.2, 0.3])
    assert (found.input_shape, found.resize) == ((3, 64, 96), 100)
    assert (found.mean, found.std) == ((0.5, 0.5, 0.5), (0.1, 0.2, 0.3))


def test_another_size_drops_the_resize_but_not_the_interpolation():
    bicubic = replace(BASE, interpolation="bicubic")
    found = overridden(bicubic, input_size=64, mean=None, std=None, resize=None)
    assert found == replace(bicubic, input_shape=(3, 64, 64), resize=None)
    assert changed(input_size=224).resize == 256


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_size": 0}, "not possible"),
        ({"input_size": (1, 2, 3)}, "not possible"),
        ({"resize": 100}, "smaller than the input"),
        ({"mean": [0.1, 0.2]}, "3 input channels"),
        ({"mean": [float("nan")]}, "is not possible"),
        ({"mean": [123.7, 116.3, 103.5]}, "is not possible for images of 0..1"),
        ({"std": [58.4]}, "is not possible for images of 0..1"),
        ({"std": [0.0]}, "must be above 0"),
    ],
)
def test_impossible_overrides(options, message):
    with pytest.raises(ModelError, match=message):
        changed(**options)


# --- interpolation in run directories


def test_an_unknown_interpolation():
    with pytest.raises(ModelError, match="'nearest' is none of bilinear, bicubic"):
        Preprocessing(input_shape=(3, 8, 8), interpolation="nearest")


def saved(path, **preprocessing):
    """A run directory of an unpruned network, ``preprocessing`` written over what the manifest says; None removes."""
    network = of_kind("digits", {})
    settings = Preprocessing(input_shape=(1, 16, 16), mean=(0.3,), std=(0.3,), interpolation="bicubic")
    run_directory.save(path, build(network), plans=[], preprocessing=settings, architecture=network)
    manifest = json.loads((path / run_directory.MANIFEST).read_text(encoding="utf-8"))
    entry = {**manifest["preprocessing"], **preprocessing}
    manifest["preprocessing"] = {key: value for key, value in entry.items() if value is not None or key == "resize"}
    manifest["fingerprint"] = run_directory._own_digest(manifest)
    (path / run_directory.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return settings


def test_interpolation_is_saved_with_a_run(tmp_path):
    settings = saved(tmp_path / "run")
    assert run_directory.load_run(tmp_path / "run").preprocessing == settings


def test_runs_from_before_there_was_interpolation_load(tmp_path):
    settings = saved(tmp_path / "run", interpolation=None)
    assert run_directory.load_run(tmp_path / "run").preprocessing == replace(settings, interpolation="bilinear")


def test_a_run_with_an_unknown_interpolation(tmp_path):
    saved(tmp_path / "run", interpolation="nearest")
    with pytest.raises(ArtifactError, match=r"preprocessing\.interpolation: Input should be 'bilinear' or 'bicubic'"):
        run_directory.load_run(tmp_path / "run")
