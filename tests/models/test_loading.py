from __future__ import annotations

from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models as tv

from topocompress.errors import ModelError
from topocompress.models.architectures import build
from topocompress.models.loading import fingerprint, load_model


def small(classes=5, name="squeezenet1_1"):
    torch.manual_seed(0)
    return tv.get_model(name, weights=None, num_classes=classes).eval()


@pytest.fixture(scope="module")
def network():
    return small()


@pytest.fixture
def checkpoint(tmp_path, network):
    torch.save(network.state_dict(), tmp_path / "model.pt")
    return tmp_path / "model.pt"


def agree(loaded, network, shape):
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return torch.equal(loaded.module(images), network(images))


def test_a_checkpoint_alone(checkpoint, network):
    before = torch.get_rng_state()
    loaded = load_model(str(checkpoint))
    assert torch.equal(before, torch.get_rng_state())
    assert loaded.source == str(checkpoint)
    assert (loaded.architecture.kind, loaded.architecture.name) == ("torchvision", "squeezenet1_1")
    assert loaded.architecture.options == {"num_classes": 5}
    assert loaded.preprocessing.input_shape == (3, 224, 224)
    assert loaded.preprocessing.resize == 256
    assert loaded.history == ()
    assert not loaded.module.training
    assert agree(loaded, network, (3, 64, 64))


def test_a_path_object_and_a_named_architecture(checkpoint, network):
    loaded = load_model(checkpoint, arch="squeezenet1_1", num_classes=5)
    assert agree(loaded, network, (3, 64, 64))


def test_a_grey_network(tmp_path):
    network = small()
    network.features[0] = nn.Conv2d(1, 64, 3, stride=2)
    torch.save(network.state_dict(), tmp_path / "grey.pt")
    for arch in (None, "squeezenet1_1"):
        loaded = load_model(tmp_path / "grey.pt", arch=arch)
        assert loaded.architecture.options == {"in_channels": 1, "num_classes": 5}
        assert loaded.preprocessing.input_shape == (1, 224, 224)
        assert loaded.preprocessing.mean == (0.449,)
        assert "1 input channel" in loaded.note
        assert agree(loaded, network, (1, 64, 64))
    assert load_model(tmp_path / "grey.pt", mean=[0.2]).preprocessing.mean == (0.2,)


def test_the_architecture_rebuilds_what_was_loaded(checkpoint):
    loaded = load_model(checkpoint)
    again = build(loaded.architecture)
    again.load_state_dict(loaded.module.state_dict())
    assert fingerprint(again) == fingerprint(loaded.module)


def test_name_with_a_weights_file(checkpoint, network):
    assert agree(load_model("squeezenet1_1", weights=str(checkpoint)), network, (3, 64, 64))


def test_half_precision_becomes_float32(tmp_path, network):
    save_file({k: v.half() for k, v in network.state_dict().items()}, tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    assert {p.dtype for p in loaded.module.parameters()} == {torch.float32}


def test_safetensors_of_a_network_with_version_marks(tmp_path):
    # MNASNet refuses a state dict without the version that only torch.save keeps.
    network = small(name="mnasnet0_5")
    save_file(network.state_dict(), tmp_path / "m.safetensors")
    assert agree(load_model(tmp_path / "m.safetensors"), network, (3, 64, 64))


def test_wrong_class_count(checkpoint):
    with pytest.raises(ModelError, match="has 5 classes, not 7"):
        load_model(checkpoint, num_classes=7)


def test_weights_of_another_architecture(checkpoint):
    with pytest.raises(ModelError, match=r"model\.pt: the weights do not fit resnet18"):
        load_model("resnet18", weights=str(checkpoint))


def test_name_without_weights():
    with pytest.raises(ModelError, match="untrained") as caught:
        load_model("resnet18")
    assert "--weights" in caught.value.hint


def test_unknown_weights_name():
    with pytest.raises(ModelError, match="no such file") as caught:
        load_model("resnet18", weights="IMAGENET22K")
    assert "IMAGENET1K_V1" in caught.value.hint


@pytest.mark.parametrize("source", ["resnet81", "squeezenet1-1"])
def test_neither_file_nor_name(source):
    with pytest.raises(ModelError, match="neither a file nor a known model") as caught:
        load_model(source)
    assert "Did you mean" in caught.value.hint


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        load_model(str(tmp_path / "none.pt"))
    with pytest.raises(ModelError, match="is a directory"):
        load_model(str(tmp_path))


def test_options_that_contradict_each_other(checkpoint):
    with pytest.raises(ModelError, match="beside the checkpoint"):
        load_model(checkpoint, weights="DEFAULT")
    with pytest.raises(ModelError, match="contradicts"):
        load_model("resnet18", weights=str(checkpoint), arch="resnet34")
    with pytest.raises(ModelError, match="beside the factory"):
        load_model("some.module:net", arch="resnet34")


def test_unknown_arch(checkpoint):
    with pytest.raises(ModelError, match="unknown architecture"):
        load_model(checkpoint, arch="resnet81")


def test_nothing_fits_names_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("topocompress.models.recognition.torchvision_names", lambda: ["alexnet", "resnet18"])
    torch.save({"fc.weight": torch.zeros(3, 3)}, tmp_path / "odd.pt")
    with pytest.raises(ModelError, match=r"odd\.pt: the weights fit no known architecture; nearest is resnet18"):
        load_model(tmp_path / "odd.pt")


def cached(monkeypatch, tmp_path, network, member):
    """Put weights where torch.hub keeps its downloads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub" / "checkpoints"
    place.mkdir(parents=True)
    torch.save(network.state_dict(), place / member.url.rpartition("/")[2])


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V1", "SqueezeNet1_1_Weights.IMAGENET1K_V1"])
def test_published_weights(monkeypatch, tmp_path, weights):
    network = small(classes=1000)
    cached(monkeypatch, tmp_path, network, tv.SqueezeNet1_1_Weights.DEFAULT)
    before = torch.get_rng_state()
    loaded = load_model("squeezenet1_1", weights=weights)
    assert torch.equal(before, torch.get_rng_state())
    assert agree(loaded, network, (3, 64, 64))
    assert "IMAGENET1K_V1" in loaded.note
    assert (len(loaded.classes), loaded.classes[0]) == (1000, "tench")


def test_published_weights_bring_their_transforms(monkeypatch, tmp_path):
    member = tv.MobileNet_V2_Weights.IMAGENET1K_V2
    cached(monkeypatch, tmp_path, small(classes=1000, name="mobilenet_v2"), member)
    # 256 for the first weights of this architecture
    assert load_model("mobilenet_v2", weights="IMAGENET1K_V2").preprocessing.resize == 232


@pytest.mark.parametrize("error", [URLError("no route"), RuntimeError("invalid hash value")])
def test_no_download(monkeypatch, tmp_path, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    with pytest.raises(ModelError, match="cannot download") as caught:
        load_model("resnet18", weights="DEFAULT")
    assert "--weights FILE" in caught.value.hint


def test_digits():
    loaded = load_model("digits")
    assert loaded.architecture.kind == "builtin"
    assert loaded.preprocessing.input_shape == (1, 16, 16)
    assert len(loaded.preprocessing.mean) == len(loaded.preprocessing.std) == 1


def test_digits_from_a_file(tmp_path):
    module = load_model("digits").module
    torch.save(module.state_dict(), tmp_path / "m.pt")
    for loaded in (load_model(tmp_path / "m.pt"), load_model("digits", weights=str(tmp_path / "m.pt"))):
        assert fingerprint(loaded.module) == fingerprint(module)
        assert loaded.preprocessing.input_shape == (1, 16, 16)


def test_a_trusted_whole_module_is_recognised(tmp_path, network):
    torch.save(network, tmp_path / "whole.pt")
    with pytest.raises(ModelError, match="whole pickled module"):
        load_model(tmp_path / "whole.pt")
    loaded = load_model(tmp_path / "whole.pt", trust_pickle=True)
    assert loaded.architecture.name == "squeezenet1_1"
    assert agree(loaded, network, (3, 64, 64))


def test_a_trusted_module_that_only_looks_like_a_known_one(tmp_path):
    changed = small()
    changed.features[2] = nn.Identity()  # no weights: the state dict does not show it
    torch.save(changed, tmp_path / "whole.pt")
    loaded = load_model(tmp_path / "whole.pt", trust_pickle=True, input_size=64)
    assert loaded.architecture.kind == "object"
    assert "--arch" in loaded.note
    assert agree(loaded, changed, (3, 64, 64))


def test_overrides(checkpoint):
    options = {"input_size": (64, 96), "resize": 100, "mean": [0.5], "std": [0.1, 0.2, 0.3]}
    found = load_model(checkpoint, **options).preprocessing
    assert (found.input_shape, found.resize) == ((3, 64, 96), 100)
    assert (found.mean, found.std) == ((0.5, 0.5, 0.5), (0.1, 0.2, 0.3))
    with pytest.raises(ModelError, match=r"does not run on an input of shape \(3, 5, 5\)"):
        load_model(checkpoint, input_size=5)


def test_fingerprint_depends_on_everything_and_changes_nothing():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    state = {key: value.clone() for key, value in network.state_dict().items()}
    first = fingerprint(network)
    assert first.startswith("sha256:")
    assert len(first) == len("sha256:") + 64
    assert first == fingerprint(network)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in state.items())
    seen = {first}
    with torch.no_grad():
        network[0].weight[0, 0, 0, 0] += 1e-6
    seen.add(fingerprint(network))
    network[1].num_batches_tracked += 1
    seen.add(fingerprint(network))
    seen.add(fingerprint(network.to(torch.bfloat16)))
    seen.add(fingerprint(nn.Sequential(*network, nn.Linear(1, 1))))
    assert len(seen) == 5
