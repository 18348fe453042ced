"""A network that states no input size: what is taken for it, and what is said of that."""

import sys

import pytest
import torch
from torch import nn

from topocompress.models.input_sizes import Settled, doubt, settled_size
from topocompress.models.loading import load_model
from topocompress.models.preprocessing import default_preprocessing
from topocompress.types import Architecture

OWN = Architecture(kind="object", name="net")


def adaptive():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def fixed(side):
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * side * side, 2))


def found(module, images=None, ask=None, architecture=OWN):
    used = default_preprocessing(architecture, module)
    return settled_size(architecture, module, used, images=None if images is None else lambda: images, ask=ask)


@pytest.mark.parametrize("side", [28, 32, 96, 224, 299])
def test_the_only_size_at_which_it_runs(side):
    assert found(fixed(side)) == Settled(size=(side, side), why="the only usual size at which it runs")


def test_images_of_one_small_size_are_as_it_was_trained_on():
    assert found(adaptive(), (48, 32)) == Settled(size=(48, 32), why="the size of the images given")
    assert found(fixed(50), (50, 50)).size == (50, 50)


@pytest.mark.parametrize("images", [(480, 640), (32, 200), None])
def test_large_images_tell_nothing(images):
    assert found(adaptive(), images).size == (224, 224)


def test_it_must_run_on_the_images():
    assert found(fixed(64), (32, 32)) == Settled(size=(64, 64), why="the only usual size at which it runs")


def test_what_cannot_be_told_is_asked():
    asked = []

    def ask(shape, why):
        asked.append((shape, why))
        return (40, 56)

    assert found(adaptive(), ask=ask) == Settled(size=(40, 56), why="")
    assert asked == [((3, 224, 224), "as for ImageNet; it runs at other sizes too")]
    assert found(fixed(50), ask=ask).size == (40, 56)
    assert asked[1][1] == "as for ImageNet, although it runs at no usual size"


def test_what_can_be_told_is_not_asked():
    def ask(shape, why):
        raise AssertionError(shape)

    assert found(fixed(32), ask=ask).size == (32, 32)
    assert found(adaptive(), (32, 32), ask=ask).size == (32, 32)


def test_nobody_answers():
    assert found(adaptive(), ask=lambda _shape, _why: None) == Settled(
        size=(224, 224), why="as for ImageNet; it runs at other sizes too"
    )


def test_a_stated_size_is_no_question():
    net = adaptive()
    net.input_shape = (3, 20, 28)
    assert found(net, (32, 32)) is None


def test_the_network_is_left_as_it_was():
    class Remembers(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.seen = nn.Conv2d(3, 4, 1), []

        def forward(self, x):
            self.seen.append(x.shape)
            return self.layer(x).mean((2, 3))

    net = Remembers().train()
    before = torch.get_rng_state()
    found(net, (32, 32))
    assert (net.seen, net.training) == ([], True)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("stop", [SystemExit, ValueError])
def test_whatever_it_raises_it_does_not_run(stop):
    class Picky(nn.Module):
        def forward(self, x):
            if x.shape[-1] != 160:
                raise stop
            return x.mean((2, 3))

    assert found(Picky()).size == (160, 160)


def test_what_is_said_of_it():
    said = doubt(Settled(size=(32, 48), why="the size of the images given"), OWN, 3)
    assert said == (
        "Input size assumed: 3 x 32 x 48, the size of the images given. The network does not state it; if that is "
        "wrong: --input-size PIXELS, or input_shape = (3, HEIGHT, WIDTH) as an attribute of the network or its factory."
    )
    assert doubt(Settled(size=(32, 48), why=""), OWN, 3) == ""


def test_a_factory_that_states_none(tmp_path, monkeypatch):
    text = "from torch import nn\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 2))\n"
    (tmp_path / "unstated.py").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "unstated", raising=False)
    loaded = load_model("unstated:build")
    assert loaded.preprocessing.input_shape == (3, 64, 64)
    assert "3 x 64 x 64, the only usual size at which it runs" in loaded.doubt
    assert load_model("unstated:build", input_size=64).doubt == ""


def test_small_images_for_a_checkpoint_of_a_known_network(tmp_path):
    from torchvision import models

    torch.save(models.squeezenet1_1(num_classes=3).state_dict(), tmp_path / "w.pt")
    taken = load_model(tmp_path / "w.pt", arch="squeezenet1_1", images=lambda: (32, 32))
    assert taken.preprocessing.input_shape == (3, 224, 224)
    assert "as for the published weights, while the images given are 32 x 32 and are enlarged to it" in taken.doubt
    assert taken.doubt.endswith("if that is wrong: --input-size PIXELS.")
    asked = load_model(tmp_path / "w.pt", images=lambda: (32, 32), ask=lambda _shape, _why: (32, 32))
    assert (asked.preprocessing.input_shape, asked.doubt) == ((3, 32, 32), "")
    for images in (None, lambda: None, lambda: (300, 300)):
        assert load_model(tmp_path / "w.pt", images=images).doubt == ""
