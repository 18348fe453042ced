"""Networks of the user's own, named as ``pkg.module:callable``."""

from __future__ import annotations

import importlib
import sys

import pytest
import torch
from torch import nn

from topocompress.errors import ModelError
from topocompress.models.factories import current_directory_importable
from topocompress.models.loading import load_model


def agree(loaded, network, shape):
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return torch.equal(loaded.module(images), network(images))


FACTORY = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, channels=1, num_classes=2):
        super().__init__()
        self.model = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                   nn.Linear(4, num_classes))

    def forward(self, x):
        return self.model(x)

def grey(num_classes=2):
    torch.manual_seed(5)
    return Net(1, num_classes)

def shaped():
    net = Net(3)
    net.input_shape = (3, 20, 28)
    return net.double()

def declared(): return Net(3)
declared.input_shape = (3, 20, 28)

class Own(Net):
    input_shape = (1, 12, 12)

def wrong(): return Net(3)
wrong.input_shape = "20x28"

class Disordered(nn.Module):
    def __init__(self):
        super().__init__()
        self.late, self.early = nn.Conv2d(5, 2, 3), nn.Conv2d(3, 5, 3)

    def forward(self, x):
        return self.late(self.early(x)).mean((2, 3))

def disordered(): return Disordered()

def hungry():
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 38 * 38, 2))
"""


@pytest.fixture
def factories(tmp_path, monkeypatch):
    (tmp_path / "topocompress_test_nets.py").write_text(FACTORY, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "topocompress_test_nets", raising=False)  # of an earlier test
    return "topocompress_test_nets"


def imported(factories):
    with current_directory_importable():
        return importlib.import_module(factories)


def test_factory_with_weights_of_its_own(factories):
    before = torch.get_rng_state()
    loaded = load_model(f"{factories}:grey", num_classes=3)
    assert torch.equal(before, torch.get_rng_state())
    assert loaded.architecture.kind == "factory"
    assert loaded.architecture.options == {"num_classes": 3}
    assert loaded.preprocessing.input_shape == (1, 224, 224)
    assert len(loaded.preprocessing.mean) == 1


def test_factory_with_a_checkpoint(factories, tmp_path):
    network = imported(factories).Net(1, 2).eval()
    # The reader takes "model." for a wrapper's prefix; here it is the network's own.
    torch.save(network.state_dict(), tmp_path / "w.pt")
    for loaded in (
        load_model(tmp_path / "w.pt", arch=f"{factories}:grey", input_size=12),
        load_model(f"{factories}:grey", weights=str(tmp_path / "w.pt"), input_size=12),
    ):
        assert loaded.preprocessing.input_shape == (1, 12, 12)
        assert agree(loaded, network, (1, 12, 12))


def test_factory_that_the_weights_do_not_fit(factories, tmp_path):
    checkpoint = tmp_path / "w.pt"
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, checkpoint)
    with pytest.raises(ModelError, match=r"does not fit topocompress_test_nets:grey: missing model\.0\.weight"):
        load_model(checkpoint, arch=f"{factories}:grey")
    torch.save({"model.0.weight": torch.zeros(4, 3, 3, 3)}, checkpoint)
    with pytest.raises(ModelError, match="does not fit"):
        load_model(checkpoint, arch=f"{factories}:grey")


def test_factory_with_an_input_shape(factories):
    loaded = load_model(f"{factories}:shaped")
    assert loaded.preprocessing.input_shape == (3, 20, 28)
    assert {p.dtype for p in loaded.module.parameters()} == {torch.float32}


def test_wrong_input_size_shows_at_once(factories):
    with pytest.raises(ModelError, match=r"does not run on an input of shape \(3, 224, 224\)") as caught:
        load_model(f"{factories}:hungry")
    assert "--input-size" in caught.value.hint
    assert load_model(f"{factories}:hungry", input_size=40).preprocessing.input_shape == (3, 40, 40)


def test_nan_from_a_factory(factories, monkeypatch):
    module = imported(factories)
    broken = module.Net(1)
    nn.init.constant_(broken.model[3].bias, float("nan"))
    monkeypatch.setattr(module, "grey", lambda: broken)
    with pytest.raises(ModelError, match=r"model\.3\.bias .* NaN or Inf"):
        load_model(f"{factories}:grey")


# --- what is assumed is said


MEAN = "mean 0.485, 0.456, 0.406 of red, green and blue (--mean)"
STD = "standard deviation 0.229, 0.224, 0.225 of red, green and blue (--std)"


@pytest.mark.parametrize(
    ("name", "options", "said", "silent"),
    [
        (
            "grey",
            {},
            [
                "assumed, as for ImageNet",
                "mean 0.449",
            ],
            ["of red", "input of"],
        ),
        ("hungry", {"input_size": 40}, [MEAN, STD], ["input of"]),
        ("shaped", {}, [MEAN, STD], ["input of"]),
        ("declared", {}, [MEAN, STD], ["input of"]),
        ("shaped", {"mean": [0.5]}, [STD], ["input of", "mean"]),
        ("shaped", {"mean": [0.5], "std": [0.5]}, [], ["assumed"]),
    ],
)
def test_what_is_assumed_of_the_input_is_said(factories, name, options, said, silent):
    note = load_model(f"{factories}:{name}", **options).note
    assert all(words in note for words in said)
    assert not any(words in note for words in silent)


def test_what_is_assumed_of_a_whole_colour_image(factories, tmp_path):
    torch.save(imported(factories).Net(3).state_dict(), tmp_path / "w.pt")
    for loaded in (
        load_model(tmp_path / "w.pt", arch=f"{factories}:declared"),
        load_model(f"{factories}:declared", weights=str(tmp_path / "w.pt")),
    ):
        assert loaded.preprocessing.input_shape == (3, 20, 28)
        assert MEAN in loaded.note


def test_what_is_assumed_of_a_pickled_module(factories, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.save(imported(factories).Net(3), tmp_path / "net.pt")
    loaded = load_model(tmp_path / "net.pt", trust_pickle=True)
    assert loaded.doubt.startswith("Input size assumed: 3 x 224 x 224, as for ImageNet; it runs at other sizes too.")
    assert STD in loaded.note


def test_a_checkpoint_says_as_little(tmp_path):
    from torchvision import models

    torch.save(models.squeezenet1_1(num_classes=3).state_dict(), tmp_path / "w.pt")
    note = load_model(tmp_path / "w.pt", arch="squeezenet1_1").note
    assert "the checkpoint does not say how images are prepared; assumed, as for the published weights" in note
    assert "input of 3 x 224 x 224, cut from images with a short side of 256 (--input-size)" in note


def test_the_digits_assume_nothing():
    assert "assumed" not in load_model("digits").note


@pytest.mark.parametrize("name", ["declared", "shaped"])
def test_an_input_shape_of_factory_or_network(factories, name):
    assert load_model(f"{factories}:{name}").preprocessing.input_shape == (3, 20, 28)


def test_an_input_shape_of_a_class(factories):
    assert load_model(f"{factories}:Own").preprocessing.input_shape == (1, 12, 12)


def test_an_input_shape_that_is_none(factories):
    with pytest.raises(ModelError, match=r":wrong\.input_shape is '20x28'"):
        load_model(f"{factories}:wrong")


@pytest.mark.parametrize("name", ["hungry", "disordered"])
def test_a_network_that_does_not_run_is_told_how_to_say_its_shape(factories, name):
    with pytest.raises(ModelError, match="does not run on an input of shape") as caught:
        load_model(f"{factories}:{name}")
    assert "--input-size" in caught.value.hint
    assert "input_shape = (channels, height, width)" in caught.value.hint
