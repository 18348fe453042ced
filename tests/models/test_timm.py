"""timm's networks by name: built, recognised, prepared for, pruned and loaded again. Nothing is downloaded."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.data import create_transform, resolve_model_data_config
from torch import nn
from torchvision.transforms import InterpolationMode

import topocompress
from tests.helpers.processes import python
from topocompress.criteria import L1
from topocompress.errors import ModelError
from topocompress.models.architectures import build, is_known, of_kind, shapes_of
from topocompress.models.loading import load_model
from topocompress.models.preprocessing import default_preprocessing
from topocompress.models.recognition import recognise
from topocompress.network.capture import map_shapes
from topocompress.network.hook_points import tapped
from topocompress.types import Architecture

NETWORKS = ("resnet10t", "mobilenetv3_small_050", "efficientnet_lite0", "convnext_atto", "regnetx_002")
SIDE = 64


def images(count: int, side: int = SIDE) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def informative(name: str, **options) -> nn.Module:
    """Seeded, BatchNorm statistics estimated on data, no zeroed branches: outputs tell inputs apart."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(name, pretrained=False, **options)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
                module.momentum = None
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
        for key, parameter in model.named_parameters():
            if key.endswith("gamma"):  # ConvNeXt starts its branches at a millionth
                nn.init.uniform_(parameter, 0.5, 1.5)
        with torch.no_grad():
            model.train()(images(16))
    return model.eval()


@pytest.fixture
def no_downloads(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a download was tried")

    monkeypatch.setattr("timm.models._builder.load_pretrained", refuse)
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse)


# --- prune, save, load, export


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run directories of all networks, pruned from a checkpoint; with each its outputs in this process."""
    place = tmp_path_factory.mktemp("timm")
    for name in NETWORKS:
        save_file(informative(name, num_classes=7).state_dict(), place / f"{name}.safetensors")
        loaded = load_model(place / f"{name}.safetensors", arch=f"timm:{name}", input_size=SIDE)
        scores = topocompress.score(loaded.module, example=images(1), criterion=L1())
        plan = topocompress.plan(loaded.module, scores, example=images(1), ratio=0.3, round_to=1)
        smaller = topocompress.apply(loaded.module, plan, example=images(1))
        topocompress.save(
            place / name,
            smaller,
            plans=[plan],
            preprocessing=loaded.preprocessing,
            architecture=loaded.architecture,
        )
        with torch.no_grad():
            outputs = smaller(images(4))
        assert outputs.std(0).max() > 0.01  # they say something of the images
        save_file({"inputs": images(4), "outputs": outputs}, place / f"{name}.outputs")
    return place


@pytest.mark.parametrize("name", NETWORKS)
def test_a_third_of_the_filters_goes(runs, name):
    whole, smaller = informative(name, num_classes=7), topocompress.load(runs / name)
    widths = [
        {layer: module.out_channels for layer, module in model.named_modules() if isinstance(module, nn.Conv2d)}
        for model in (whole, smaller)
    ]
    assert widths[0].keys() == widths[1].keys()
    assert sum(widths[1].values()) < 0.85 * sum(widths[0].values())
    assert sum(p.numel() for p in smaller.parameters()) < 0.75 * sum(p.numel() for p in whole.parameters())


def test_loading_in_another_process_gives_the_same_bits(runs):
    code = (
        "import sys, torch, topocompress\n"
        "from pathlib import Path\n"
        "from safetensors.torch import load_file\n"
        "for name in sys.argv[2:]:\n"
        "    known = load_file(Path(sys.argv[1], f'{name}.outputs'))\n"
        "    model = topocompress.load(Path(sys.argv[1], name))\n"
        "    with torch.no_grad():\n"
        "        print(name, torch.equal(model(known['inputs']), known['outputs']))\n"
    )
    done = python("-c", code, runs, *NETWORKS)
    assert done.stdout.split("\n")[:-1] == [f"{name} True" for name in NETWORKS]


# Plain convolutions, depthwise ones, and linear layers whose channels lie last.
@pytest.mark.parametrize("name", ["resnet10t", "efficientnet_lite0", "convnext_atto"])
def test_the_exported_file_computes_the_same(runs, name, tmp_path):
    topocompress.export_onnx(topocompress.load(runs / name), tmp_path / "model.onnx", samples=images(4))
    known = load_file(runs / f"{name}.outputs")
    session = ort.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: known["inputs"].numpy()})[0]
    np.testing.assert_allclose(found, known["outputs"].numpy(), atol=1e-4 * float(known["outputs"].abs().max()))


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
    with pytest.raises(ModelError, match=r"cannot download the weights of timm:resnet10t\.c3_in1k: no route") as caught:
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

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
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


# --- where maps are taken


def maps_of(model: nn.Module, layers: list[str], inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    found = {}
    with tapped(model, layers, lambda layer, maps: found.setdefault(layer, maps.clone())) as run:
        run(inputs)
    return found


@pytest.mark.parametrize(
    ("name", "layer", "norm"),
    [
        ("efficientnet_lite0", "conv_stem", "bn1"),
        ("efficientnet_lite0", "blocks.1.0.conv_dw", "blocks.1.0.bn2"),
        ("mobilenetv3_small_050", "blocks.1.0.conv_pw", "blocks.1.0.bn1"),
        ("regnetx_002", "s1.b1.conv1.conv", "s1.b1.conv1.bn"),
        ("convnext_atto", "stem.0", "stem.1"),
    ],
)
def test_a_map_is_taken_after_the_norm_that_holds_the_activation(name, layer, norm):
    model, after = informative(name), {}
    model.get_submodule(norm).register_forward_hook(
        lambda _module, _inputs, output: after.update(output=output.clone())
    )
    found = maps_of(model, [layer], images(2))[layer]
    assert torch.equal(found, after["output"])
    if "bn" in norm and name != "regnetx_002":
        activation = model.get_submodule(norm).act
        assert not isinstance(activation, nn.Identity)
        assert found.min() >= (-0.375 if isinstance(activation, nn.Hardswish) else 0)
    if isinstance(model.get_submodule(norm), nn.BatchNorm2d):
        inside = {}
        model.get_submodule(norm).register_forward_pre_hook(
            lambda _module, inputs: inside.update(inputs=inputs[0].clone())
        )
        with torch.no_grad():
            model(images(2))
        assert not torch.allclose(found, inside["inputs"], atol=1e-3)


def test_every_convolution_of_a_network_delivers_maps():
    model = informative("mobilenetv3_small_050")
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    assert list(map_shapes(model, layers, images(1))) == layers
