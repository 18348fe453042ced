"""timm's networks by name: built, recognised, prepared for, pruned and loaded again. Nothing is downloaded."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.data import create_transform, resolve_model_data_config
from torch import nn
from torchvision.transforms import InterpolationMode

from tests.helpers.timm_nets import NETWORKS, SIDE, images, informative
from topocompress.errors import ModelError
from topocompress.models.architectures import build, is_known, of_kind, shapes_of
from topocompress.models.loading import load_model
from topocompress.models.preprocessing import default_preprocessing
from topocompress.models.recognition import recognise
from topocompress.types import Architecture


@pytest.fixture
def no_downloads(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a download was tried")

    monkeypatch.setattr("timm.models._builder.load_pretrained", refuse)
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse)


# --- names and weights


def test_a_checkpoint_shows_its_classes_and_input_channels(no_downloads):
    model = timm.create_model("mobilenetv3_small_050", num_classes=5, in_chans=1)
    found = recognise(model.state_dict(), "timm:mobilenetv3_small_050")
    assert found.architecture == Architecture(
        kind="timm", name="mobilenetv3_small_050", options={"in_channels": 1, "num_classes": 5}
    )
    build(found.architecture).load_state_dict(found.state)
    assert default_preprocessing(found.architecture, model).input_shape == (1, 224, 224)


def test_weights_of_another_network_are_refused_with_the_differences(no_downloads):
    state = timm.create_model("resnet10t").state_dict()
    with pytest.raises(ModelError, match=r"do not fit timm:regnetx_002: missing stem\.conv\.weight"):
        recognise(state, "timm:regnetx_002")


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_are_those_of_the_built_network(name, no_downloads):
    state = build(of_kind(f"timm:{name}", {"num_classes": 3})).state_dict()
    assert shapes_of(f"timm:{name}", (("num_classes", 3),)) == {key: tuple(value.shape) for key, value in state.items()}


def test_a_name_with_the_weights_in_a_file(tmp_path, no_downloads):
    model = informative("resnet10t", num_classes=4)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    before = torch.get_rng_state()
    loaded = load_model("timm:resnet10t.c3_in1k", weights=str(tmp_path / "weights.safetensors"), input_size=SIDE)
    assert torch.equal(before, torch.get_rng_state())
    assert loaded.architecture == Architecture(kind="timm", name="resnet10t.c3_in1k", options={"num_classes": 4})
    with torch.no_grad():
        assert torch.equal(loaded.module(images(2)), model(images(2)))


def test_a_name_alone_says_which_weights_there_are(no_downloads):
    with pytest.raises(ModelError, match="without weights is untrained") as caught:
        load_model("timm:resnet10t")
    assert "--weights DEFAULT for the published ones (c3_in1k)" in caught.value.hint
    with pytest.raises(ModelError, match="no weights 'other'"):
        load_model("timm:resnet10t", weights="other")


@pytest.mark.parametrize(
    ("weights", "tag", "side"),
    [("DEFAULT", "e2400_r224_in1k", 224), ("e3600_r256_in1k", "e3600_r256_in1k", 256)],
)
def test_published_weights_are_fetched_when_asked_for_and_bring_their_preprocessing(weights, tag, side, monkeypatch):
    asked, original = [], timm.create_model

    def create(name, *, pretrained, **options):
        asked.append((name, pretrained))
        return original(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", create)
    loaded = load_model("timm:mobilenetv4_conv_small", weights=weights)
    assert [name for name, pretrained in asked if pretrained] == [f"mobilenetv4_conv_small.{tag}"]
    assert loaded.architecture.name == f"mobilenetv4_conv_small.{tag}"
    assert loaded.preprocessing.input_shape == (3, side, side)
    assert loaded.note == f"timm weights {tag}"


def test_no_download(monkeypatch):
    def fail(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr("timm.models._builder.load_pretrained", fail)
    with pytest.raises(
        ModelError, match=r"cannot download the weights of timm:resnet10t\.c3_in1k: .*no route"
    ) as caught:
        load_model("timm:resnet10t", weights="DEFAULT")
    assert "--weights FILE" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("timm:resnet10x", "timm:resnet10t"),
        ("timm:ResNet10T", "timm:resnet10t"),
        ("timm:resnet10t.in99k", "c3_in1k"),
        ("timm:hf-hub:timm/resnet18", "list_models"),
        ("timm:local-dir:/tmp", "list_models"),
        ("timm:", "list_models"),
    ],
)
def test_an_unknown_name_is_refused_with_near_ones(name, text, no_downloads):
    assert is_known(name)  # as left to timm
    for attempt in (lambda: build(of_kind(name, {})), lambda: load_model(name, weights="DEFAULT")):
        with pytest.raises(ModelError, match=r"timm.* has no") as caught:
            attempt()
        assert text in caught.value.hint


@pytest.mark.parametrize("option", ["pretrained_cfg", "checkpoint_path", "pretrained", "cache_dir"])
def test_a_file_cannot_name_options_that_load_other_files(option, no_downloads):
    with pytest.raises(ModelError, match=f"no such option: {option}"):
        build(Architecture(kind="timm", name="resnet10t", options={option: "evil.pth"}))


def test_without_timm_the_error_says_how_to_get_it(monkeypatch, tmp_path):
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "weights.safetensors")
    monkeypatch.setitem(sys.modules, "timm", None)
    for attempt in (
        lambda: load_model(tmp_path / "weights.safetensors", arch="timm:resnet10t"),
        lambda: load_model("timm:resnet10t", weights="DEFAULT"),
        lambda: build(of_kind("timm:resnet10t", {})),
    ):
        with pytest.raises(ModelError, match="timm:resnet10t is a network of timm, which cannot be imported") as caught:
            attempt()
        assert "pip install 'topocompress[timm]'" in caught.value.hint


def test_the_extra_is_declared():
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    assert any(line.startswith("timm") for line in project["project"]["optional-dependencies"]["timm"])


# --- preprocessing


@pytest.mark.parametrize(
    "name", ["resnet10t", "efficientnet_lite0", "regnetx_002", "convnext_atto.d2_in1k", "rexnet_100"]
)
def test_preprocessing_is_that_of_timms_own_transform(name):
    found = default_preprocessing(of_kind(f"timm:{name}", {}), nn.Identity())
    resize, crop, _, normalize = create_transform(
        **resolve_model_data_config(timm.create_model(name)), is_training=False
    ).transforms
    assert (found.resize, found.input_shape[1:]) == (resize.size, tuple(crop.size))
    assert InterpolationMode(found.interpolation) == resize.interpolation
    assert found.mean == pytest.approx(normalize.mean.tolist())
    assert found.std == pytest.approx(normalize.std.tolist())


def test_a_squashed_image_is_not_cropped():
    names = [name for name in timm.list_models(pretrained=True) if timm.get_pretrained_cfg(name).crop_mode == "squash"]
    found = default_preprocessing(of_kind(f"timm:{names[0]}", {}), nn.Identity())
    assert found.resize is None
