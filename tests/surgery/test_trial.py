"""Groups tried out before scoring: the ones whose wiring is misread stay whole, the others are found prunable."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import topocompress
from tests.helpers.tiny_nets import ALL, Chain, Halves, PaddedShortcut, Rolled, example, seeded
from topocompress.data.loading import Data
from topocompress.dependencies.groups import find_groups
from topocompress.surgery import trial
from topocompress.surgery.trial import prunable_groups


def reasons(model, inputs=None, **options):
    return {
        found.root: found.protected
        for found in prunable_groups(model, example() if inputs is None else inputs, **options)
    }


@pytest.fixture
def trials(monkeypatch):
    """Every plan that is tried, and what came of it."""
    seen, real = [], trial.refusal

    def refusal(model, plan, inputs):
        why = real(model, plan, inputs)
        seen.append(([entry.root for entry in plan.groups], bool(why)))
        return why

    monkeypatch.setattr(trial, "refusal", refusal)
    return seen


# --- networks


@pytest.mark.parametrize("kind", ALL)
def test_groups_that_come_off_as_predicted_are_as_found_after_one_trial(kind, trials):
    model = seeded(kind)
    assert prunable_groups(model, example()) == find_groups(model, example())
    assert [failed for _, failed in trials] == [False]


def test_a_padded_stream_is_kept_whole_and_the_inner_filters_are_free():
    found = reasons(seeded(PaddedShortcut))
    assert "F.pad" in found["stem"]
    assert found["inner"] == ""


@pytest.mark.parametrize(("kind", "free"), [(Rolled, "reader"), (Halves, "reader")])
def test_the_rest_of_a_network_with_misread_channels_is_free(kind, free):
    model = seeded(kind)
    before = {found.root: found.protected for found in find_groups(model, example())}
    found = reasons(model)
    assert {root for root in found if found[root] != before[root]} == {"body"}
    assert "channels" in found["body"]
    assert found[free] == before[free] == ""


def test_a_network_that_gives_nan_is_not_tried(trials):
    model = seeded(Chain)
    with torch.no_grad():
        model.first.weight[0] = torch.nan

    assert prunable_groups(model, example()) == find_groups(model, example())
    assert trials == []


def test_what_was_protected_before_keeps_its_reason():
    assert reasons(seeded(PaddedShortcut), ignore=["stem"])["stem"] == "ignored: stem"


def test_padding_with_the_channels_in_the_middle_gives_what_is_computed_by_hand():
    model = seeded(PaddedShortcut)
    scores = topocompress.score(model, example=example(), criterion="l1")
    assert set(scores.layers) == {"inner"}
    plan = topocompress.plan(model, scores, example=example(), ratio=0.5, round_to=1)
    smaller = topocompress.apply(model, plan, example=example())
    assert (smaller.stem.out_channels, smaller.inner.out_channels, smaller.outer.in_channels) == (4, 4, 4)

    weakest = model.inner.weight.abs().sum((1, 2, 3)).argsort()[:4].tolist()
    keep = [channel for channel in range(8) if channel not in weakest]
    with torch.no_grad():
        x = F.relu(F.conv2d(example(), model.stem.weight, model.stem.bias, padding=1))
        inner = F.relu(F.conv2d(x, model.inner.weight[keep], model.inner.bias[keep], stride=2, padding=1))
        outer = F.conv2d(inner, model.outer.weight[:, keep], model.outer.bias, padding=1)
        short = torch.zeros_like(outer)
        short[:, 2:6] = x[:, :, ::2, ::2]
        expected = F.relu(outer + short).mean((2, 3)) @ model.head.weight.T + model.head.bias
        torch.testing.assert_close(smaller(example()), expected, rtol=1e-5, atol=1e-6)


class CifarBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.stride, self.pad = stride, (outputs - inputs) // 2

    def forward(self, x):
        short = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + short)


class CifarNet(nn.Module):
    """He et al.'s ResNet for CIFAR, two blocks a stage and a quarter as wide."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4)
        stages = [(4, 4, 1), (4, 8, 2), (8, 16, 2)]
        self.layers = nn.Sequential(
            *(nn.Sequential(CifarBlock(*stage), CifarBlock(stage[1], stage[1], 1)) for stage in stages)
        )
        self.linear = nn.Linear(16, 3)

    def forward(self, x):
        return self.linear(self.layers(F.relu(self.bn1(self.conv1(x)))).mean((2, 3)))


def labelled() -> Data:
    images = torch.randn(40, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    samples = TensorDataset(images, torch.arange(40) % 3)
    return Data(
        calibration=samples,
        train=None,
        evaluation=samples,
        labelled=True,
        classes=("a", "b", "c"),
        source="made up",
        note="",
        skipped=(),
        fingerprint="sha256:0",
    )


@pytest.mark.usefixtures("unexported")
def test_a_residual_stream_that_is_padded_twice_needs_no_help(tmp_path):
    model = seeded(CifarNet)
    result = topocompress.compress(model, labelled(), ratio=0.5, criterion="l1", round_to=1, out=tmp_path / "run")
    kept = {entry.root: entry.protected for entry in result.plan.groups}
    inner = [f"layers.{stage}.{block}.conv1" for stage in range(3) for block in range(2)]
    assert {root for root, reason in kept.items() if not reason} == set(inner)
    assert "F.pad" in kept["conv1"]
    widths = {
        name: module.out_channels for name, module in result.model.named_modules() if isinstance(module, nn.Conv2d)
    }
    assert [widths[name] for name in inner] == [2, 2, 4, 4, 8, 8]
    assert [widths[name.replace("conv1", "conv2")] for name in inner] == [4, 4, 8, 8, 16, 16]
    assert any(warning.startswith("Kept whole: conv1, ") for warning in result.report.warnings)
    again = topocompress.load(tmp_path / "run", arch=CifarNet)
    images = labelled().evaluation.tensors[0]
    with torch.no_grad():
        assert torch.equal(again(images), result.model(images))


def test_the_model_and_the_random_state_stay():
    model = seeded(PaddedShortcut).train()
    state, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    random = torch.get_rng_state()
    prunable_groups(model, example())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_images_without_content_hide_nothing():
    assert reasons(seeded(PaddedShortcut), torch.zeros(1, 3, 8, 8))["stem"].startswith("a padding of the channels")


# --- what outputs are compared on


class Touchy(nn.Module):
    """Magnifies rounding errors of pixels that it is not used to."""

    def __init__(self, excess):
        super().__init__()
        self.body, self.excess = seeded(Chain), excess

    def forward(self, images):
        return self.body(images) + torch.sin(1e8 * self.excess(images)).mean()


@pytest.mark.parametrize(
    ("excess", "largest"),
    [
        (torch.zeros_like, 2.5),
        (lambda images: F.relu(images.abs() - 1), 0.25),
        (lambda images: F.relu(images.abs() - 0.1), 0.025),
        (lambda images: F.relu(-images), 0.5),  # any noise has negative pixels; the example has none
    ],
)
def test_outputs_are_compared_where_rounding_is_not_magnified(excess, largest, trials, monkeypatch):
    used = []
    monkeypatch.setattr(trial, "tried", lambda _model, groups, inputs, _: used.append(inputs) or groups)
    prunable_groups(Touchy(excess), torch.full((1, 3, 8, 8), 0.5))
    assert largest / 2 < float(used[0].abs().max()) <= 2 * largest
    assert (float(used[0].min()) == 0.5) == (largest == 0.5)


def test_where_rounding_is_magnified_everywhere_the_least_is_taken():
    def touchy(images):
        return torch.sin(1e8 * images).mean(dim=(1, 2, 3), keepdim=False)[:, None] * images.abs().max()

    model = nn.Sequential(nn.Conv2d(3, 4, 1))
    model.forward = lambda images: nn.Sequential.forward(model, images) + touchy(images)[..., None, None]
    assert torch.equal(trial._steady(model, torch.zeros(1, 3, 8, 8)), torch.zeros(1, 3, 8, 8))


def test_outputs_that_cannot_be_compared_are_infinitely_far():
    assert trial._distance([torch.ones(2)], [torch.ones(3)]) == math.inf
    assert trial._distance([torch.tensor([torch.nan])], [torch.ones(1)]) == math.inf
    assert (
        trial._distance([torch.zeros(0), torch.tensor([2.0, -4.0])], [torch.zeros(0), torch.tensor([1.0, -4.0])])
        == 0.25
    )


class Returned(nn.Module):
    """What the head reads is returned beside what it gives."""

    def __init__(self):
        super().__init__()
        self.stem, self.inner, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, images):
        features = F.silu(self.inner(self.stem(images)))
        return {"features": [features], "scores": self.head(features)}


def test_a_feature_that_is_returned_too_is_known_without_a_search(trials):
    found = reasons(seeded(Returned))
    assert found["stem"] == ""
    assert found["inner"] == "is itself an output of the model, besides being read by head"
    assert len(trials) == 1
