import copy
import json
from dataclasses import replace

import onnx
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

import topocompress
from topocompress import TopologicalActivation, fold_back, swap_activations
from topocompress.errors import ArtifactError, ModelError, PlanError
from topocompress.models.loading import fingerprint, load_model
from topocompress.surgery.activations import describe_waves, restore_waves, some
from topocompress.surgery.run_directory import MANIFEST, _own_digest, load_run


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class Mixed(nn.Module):
    """Modules, a module that two layers of different width share, and functions."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 6, 3)
        self.own, self.shared, self.idle = nn.ReLU(inplace=True), nn.SiLU(), nn.GELU()
        self.hidden, self.gate, self.head = nn.Linear(6, 5), nn.Hardswish(), nn.Linear(5, 2)

    def forward(self, x):
        x = self.shared(self.second(self.own(self.first(x))))
        x = F.relu(self.shared(self.third(x))).mean((2, 3))
        return self.head(torch.tanh(self.gate(self.hidden(x))))


@pytest.fixture
def mixed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Mixed()


def test_the_swapped_network_computes_the_same_bit_for_bit(mixed):
    inputs = normal(2, 3, 10, 10)
    before, modes = fingerprint(mixed), [module.training for module in mixed.modules()]
    swapped = swap_activations(mixed, inputs[:1])
    assert torch.equal(swapped.model(inputs), mixed(inputs))
    assert fingerprint(mixed) == before
    assert [module.training for module in mixed.modules()] == modes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in swapped.model.modules())


def test_what_was_swapped_and_what_was_not_is_said(mixed):
    swapped = swap_activations(mixed, normal(1, 3, 10, 10))
    assert swapped.swapped == ("own", "shared", "gate")
    assert swapped.left == ("idle (not called)", "relu in the network", "tanh in the network")
    model = swapped.model
    assert [model.own.channels, model.shared.channels, model.gate.channels] == [4, 1, 5]  # shared by 4 and 6
    assert isinstance(model.own.base, nn.ReLU)
    assert isinstance(model.idle, nn.GELU)


def test_amplitudes_are_learned(mixed):
    model = swap_activations(mixed, normal(1, 3, 10, 10)).model
    model(normal(4, 3, 10, 10)).square().sum().backward()
    assert all(module.amplitude.grad.abs().sum() > 0 for module in (model.own, model.shared, model.gate))


def test_tokens_have_their_channels_last():
    layer = nn.TransformerEncoderLayer(8, 2, 12, activation=nn.GELU(), batch_first=True)
    model = nn.Sequential(layer, nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
    swapped = swap_activations(model, normal(1, 5, 8))
    waves = {
        name: module for name, module in swapped.model.named_modules() if isinstance(module, TopologicalActivation)
    }
    assert (waves["2"].channels, waves["2"].axis) == (6, -1)


def test_swapping_twice_changes_nothing_more(mixed):
    once = swap_activations(mixed, normal(1, 3, 10, 10)).model
    with pytest.raises(ModelError, match="no activation of Mixed can be swapped; called inside forward: relu in"):
        swap_activations(once, normal(1, 3, 10, 10))


def test_a_network_of_functions_is_refused_with_their_places():
    model = torchvision.models.googlenet(weights=None, init_weights=False, aux_logits=False).eval()
    with pytest.raises(ModelError, match=r"relu in conv1, relu in conv2, relu in conv3 and 5\d more"):
        swap_activations(model, normal(1, 3, 64, 64))


def test_a_residual_network_swaps_completely():
    model = torchvision.models.resnet18(weights=None).eval()
    inputs = normal(2, 3, 64, 64)
    swapped = swap_activations(model, inputs[:1])
    assert (len(swapped.swapped), swapped.left) == (9, ())
    assert torch.equal(swapped.model(inputs), model(inputs))


# --- folding back ---


def test_amplitudes_near_0_fold_back(mixed):
    model = swap_activations(mixed, normal(1, 3, 10, 10)).model
    with torch.no_grad():
        model.own.amplitude.copy_(torch.tensor([5e-4, -1e-3, 2e-3, 0.5]))
        model.shared.amplitude.fill_(-9e-4)
    folded = fold_back(model)
    torch.testing.assert_close(folded.own.amplitude.detach(), torch.tensor([0.0, 0.0, 2e-3, 0.5]))
    assert isinstance(folded.shared, nn.SiLU)
    assert isinstance(folded.gate, nn.Hardswish)
    assert model.own.amplitude.detach()[0].item() == pytest.approx(5e-4)
    assert isinstance(fold_back(model, tolerance=1.0).own, nn.ReLU)


def test_waves_are_built_again_from_plain_data(mixed):
    model = swap_activations(mixed, normal(1, 3, 10, 10), amplitude=0.3, frequency=1.5).model
    entries = describe_waves(model)
    again = copy.deepcopy(mixed)
    restore_waves(again, entries)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(normal(2, 3, 10, 10)), model(normal(2, 3, 10, 10)))
    with pytest.raises(ModelError, match="no activation nowhere"):
        restore_waves(again, [replace(entries[0], names=("nowhere",))])


def test_local_activations_are_built_again_from_plain_data(mixed):
    inputs = normal(2, 3, 10, 10)
    same = swap_activations(mixed, inputs[:1], local=1.5).model
    assert torch.equal(same(inputs), mixed(inputs))
    model = swap_activations(mixed, inputs[:1], amplitude=0.3, local=1.5).model
    assert not torch.equal(model(inputs), mixed(inputs))
    again = copy.deepcopy(mixed)
    restore_waves(again, describe_waves(model))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(inputs), model(inputs))


def test_activations_that_a_network_has_by_itself_are_not_put_on_top_of_each_other():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), TopologicalActivation(4, local=1.5), nn.Conv2d(4, 2, 3))
    again = copy.deepcopy(model)
    restore_waves(again, describe_waves(model))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(normal(1, 3, 8, 8)), model(normal(1, 3, 8, 8)))


def test_activations_of_a_networks_own_that_were_folded_back_stay_away():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        TopologicalActivation(4, local=1.5),
        nn.Conv2d(4, 2, 3),
        TopologicalActivation(2, base=nn.Sequential(nn.ReLU())),
    )
    again = copy.deepcopy(model)
    with torch.no_grad():
        model[3].amplitude.zero_()
    folded = fold_back(model)
    restore_waves(again, describe_waves(folded))
    again.load_state_dict(folded.state_dict())
    assert isinstance(again[1], TopologicalActivation)
    assert isinstance(again[3], nn.Sequential)
    assert torch.equal(again(normal(1, 3, 8, 8)), model(normal(1, 3, 8, 8)))


def test_many_names_are_cut_short():
    assert some(["a", "b", "c"]) == "a, b, c"
    assert some(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


# --- in the whole job ---


@pytest.fixture(scope="module")
def finished(digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("swapped") / "run"
    options = {"criterion": "l1", "finetune": 1, "controls": False, "round_to": 1}
    result = topocompress.compress(
        load_model("digits"), digits, ratio=0.25, activation="topological", out=path, **options
    )
    return path, result, options


def test_a_run_comes_back_with_its_activations(finished):
    path, result, _ = finished
    loaded = topocompress.load(path)
    inputs = normal(3, 1, 16, 16)
    assert fingerprint(loaded) == fingerprint(result.model)
    assert torch.equal(loaded(inputs), result.model.eval()(inputs))
    waves = [module for module in loaded.modules() if isinstance(module, TopologicalActivation)]
    assert waves
    assert any(module.amplitude.abs().max() > 1e-3 for module in waves)
    assert "Round" in {node.op_type for node in onnx.load(path / "model.onnx").graph.node}


def test_the_report_says_what_became_of_the_activations(finished):
    report = json.loads((finished[0] / "report.json").read_text(encoding="utf-8"))
    entry = report["finetune"]["activation"]
    assert entry["swapped"] == ["stem.2", "down.2", "inner.2", "act"]
    assert set(entry["amplitudes"]) | set(entry["folded_back"]) == set(entry["swapped"])
    assert "Topological activations: 4 swapped, 0 left" in (finished[0] / "report.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("unexported")
def test_a_swapped_run_can_be_pruned_again(finished, digits, tmp_path):
    path, first, options = finished
    again = tmp_path / "again"
    result = topocompress.compress(load_run(path), digits, ratio=0.3, out=again, **options)
    waves = {name: module for name, module in result.model.named_modules() if isinstance(module, TopologicalActivation)}
    before = {n: m.channels for n, m in first.model.named_modules() if isinstance(m, TopologicalActivation)}
    assert waves
    assert all(module.channels < before[name] for name, module in waves.items())
    assert fingerprint(topocompress.load(again)) == fingerprint(result.model)


def local_network():
    """A network that is built with local activations, as a factory."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, bias=False),
            nn.BatchNorm2d(8),
            TopologicalActivation(8, local=1.5),
            nn.Conv2d(8, 8, 3),
            TopologicalActivation(8, local=1.5),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 10),
        ).eval()


@pytest.mark.usefixtures("unexported")
def test_a_network_of_local_activations_is_pruned_and_comes_back(digits, tmp_path):
    model = local_network()
    with torch.no_grad():
        model[2].amplitude.copy_(torch.arange(8) / 8)
    result = topocompress.compress(
        model, digits, ratio=0.5, criterion="l1", controls=False, round_to=1, out=tmp_path / "run"
    )
    (group,) = (group for group in result.plan.groups if group.root == "0")
    kept = sorted(set(range(8)) - set(group.remove))
    assert result.model[2].amplitude.tolist() == [channel / 8 for channel in kept]
    loaded = topocompress.load(tmp_path / "run", arch=local_network)
    assert (loaded[2].local, loaded[4].channels) == (1.5, result.model[4].channels)
    assert torch.equal(loaded(normal(3, 1, 16, 16)), result.model(normal(3, 1, 16, 16)))


def test_a_run_whose_activations_do_not_fit_is_refused(finished, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in finished[0].iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((broken / MANIFEST).read_text(encoding="utf-8"))
    manifest["activations"][0]["names"] = ["elsewhere"]
    manifest["fingerprint"] = _own_digest(manifest)
    (broken / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ArtifactError, match="its activations do not fit the network"):
        load_run(broken)


@pytest.mark.parametrize(("activation", "epochs", "message"), [("wavy", 1, "unknown"), ("topological", 0, "by itself")])
def test_an_activation_that_cannot_be_learned_is_refused(digits, activation, epochs, message):
    with pytest.raises(PlanError, match=message):
        topocompress.compress(load_model("digits"), digits, ratio=0.25, activation=activation, finetune=epochs)
