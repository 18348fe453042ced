"""timm's networks pruned, saved, loaded and exported, and where their maps are taken."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import topocompress
from tests.helpers.processes import python
from tests.helpers.timm_nets import NETWORKS, SIDE, images, informative
from topocompress.criteria import L1
from topocompress.models.loading import load_model
from topocompress.network.capture import map_shapes
from topocompress.network.hook_points import hooked

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


# --- where maps are taken


def maps_of(model: nn.Module, layers: list[str], inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    found = {}
    with hooked(model, layers, lambda layer, maps: found.setdefault(layer, maps.clone())) as run:
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
