"""Criteria of gradients: persistence and Taylor by hand, and the passes that feed them."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.capturing import Net, conv, images, seeded, split
from tests.helpers.scoring_nets import plain
from tests.helpers.tiny_nets import Residual, example
from tests.helpers.tiny_nets import seeded as tiny
from topocompress import score
from topocompress.criteria import GradientCriterion, Persistence, Taylor
from topocompress.criteria.registry import create
from topocompress.errors import CriterionError, DataError, ModelError
from topocompress.network.batchnorm import recalibrate_batchnorm
from topocompress.runtime.resources import Resources
from topocompress.scoring import gradients
from topocompress.scoring.dispatch import score_layers
from topocompress.scoring.joint import least_joint


class Sum(GradientCriterion):
    """Effect on the sum of the outputs (higher: keep)."""

    name, higher = "sum", "keep"

    def __init__(self, looks=1, alone=0.0, norm=0.5) -> None:
        self.looks, self.alone, self.norm = looks, alone, norm

    def directions(self, outputs, labels):
        return torch.ones_like(outputs)[None]


def small():
    return seeded(lambda: Net(lambda n, x: n.b(torch.relu(n.a(x))).mean(-1), a=conv(), b=conv(4, 3)))


def test_the_score_is_the_root_mean_square_of_the_effects():
    model, x = small(), images(6)

    found = score_layers(model, ["a"], Sum(), split(x))

    maps = torch.relu(model.a(x)).detach()
    weights = torch.nn.functional.conv_transpose2d(torch.full((6, 3, 6, 6), 1 / 36), model.b.weight, padding=1)
    expected = (maps * weights.detach()).sum(dim=(2, 3)).square().mean(dim=0).sqrt() * 6
    np.testing.assert_allclose(found.layers["a"].values * 6, expected.numpy(), rtol=1e-4)
    assert found.samples == 6


@pytest.mark.parametrize("looks", [1, 4])
def test_scores_do_not_depend_on_batches_or_memory(looks):
    model, x = small(), images(7)
    scored = [
        score_layers(model, ["a", "b"], Sum(looks), split(x, size), resources=Resources(memory=memory))
        for size, memory in ((3, None), (7, None), (7, 1))
    ]

    for other in scored[1:]:
        for name, layer in scored[0].layers.items():
            np.testing.assert_allclose(other.layers[name].values, layer.values, rtol=1e-5, atol=1e-7)


def test_doubles_that_cancel_go_before_what_is_small_alone():
    """Filters 0 and 1 give the same map and are read with opposite weights: together they do nothing."""
    model = Net(lambda n, x: n.b(n.a(x)).mean(-1), a=nn.Conv2d(1, 4, 1, bias=False), b=nn.Conv2d(4, 1, 1, bias=False))
    with torch.no_grad():
        model.a.weight.fill_(1)
        model.b.weight.copy_(torch.tensor([2.0, -2.0, 3.0, 5.0]).reshape(1, 4, 1, 1))
    batch = [(torch.rand(4, 1, 2, 2, generator=torch.Generator().manual_seed(0)) + 1, torch.zeros(4))]

    alone = score_layers(model, ["a"], Sum(), batch).layers["a"].values
    joint = score_layers(model, ["a"], Sum(looks=2), batch).layers["a"].values

    assert alone[0] == pytest.approx(alone[1])
    assert np.argsort(alone, kind="stable").tolist() == [0, 1, 2, 3]
    assert np.argsort(joint).tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(np.sort(joint), np.sort(alone))


def test_of_filters_that_do_the_same_those_of_small_weights_go_first():
    """Squares of the weights 16, 1, 9, 4, their mean 7.5; the smallest does a little more than the others."""
    weights, does = np.array([4.0, 1.0, 3.0, 2.0]), np.array([1.0, 1.03, 1.02, 1.01])
    model = Net(lambda n, x: n.b(n.a(x)).mean(-1), a=nn.Conv2d(1, 4, 1, bias=False), b=nn.Conv2d(4, 1, 1, bias=False))
    with torch.no_grad():
        model.a.weight.copy_(torch.from_numpy(weights).reshape(4, 1, 1, 1))
        model.b.weight.copy_(torch.from_numpy(does / weights).reshape(1, 4, 1, 1))
    batch = [(torch.ones(4, 1, 2, 1), torch.zeros(4))]

    def scored(**settings):
        return score_layers(model, ["a"], Sum(**settings), batch).layers["a"].values

    np.testing.assert_allclose(scored() / scored()[0], does, rtol=1e-5)
    assert np.argsort(scored(alone=3.0)).tolist() == [1, 3, 2, 0]
    # s² + λ · 1.03 · n²/7.5, 1.03 being the mean of s²: 1.044, 1.064, 1.065, 1.031
    assert np.argsort(scored(alone=0.02, norm=1.0)).tolist() == [3, 0, 1, 2]
    assert np.argsort(scored(alone=0.04)).tolist() == [3, 0, 1, 2]  # half of λ goes to the norm
    assert np.argsort(scored(alone=0.02)).tolist() == np.argsort(scored()).tolist() == [0, 3, 2, 1]
    np.testing.assert_allclose(np.sort(scored(alone=3.0)), np.sort(scored()))  # layers stay comparable
    assert np.argsort(scored(looks=2)).tolist() == [0, 3, 2, 1]
    assert np.argsort(scored(looks=2, alone=3.0)).tolist() == [1, 3, 2, 0]
    np.testing.assert_allclose(np.sort(scored(looks=2, alone=3.0)), np.sort(scored()))


def test_filters_that_go_together_are_judged_together():
    model = tiny(Residual)
    x = torch.cat([example()] * 2) + torch.arange(2).reshape(2, 1, 1, 1)
    batch = [(x, torch.zeros(2))]

    found = score(model, batch, criterion=Sum())

    stem, outer = found.layers["stem"].values, found.layers["outer"].values
    assert stem.tolist() == outer.tolist()
    silent = copy.deepcopy(model)  # the residual stream ends in a mean behind a ReLU: nearly the change itself
    assert (stem > 0).all()
    assert not torch.equal(silent.norm.weight, torch.zeros(8))


def test_taylor_needs_labels():
    model, x = small(), images(4)
    unlabelled = [(x, torch.full((4,), -1))]

    with pytest.raises(DataError, match="'taylor' needs the label of every"):
        score_layers(Wrapped(model), ["model.a"], Taylor(), unlabelled)
    with pytest.raises(DataError, match="label 9"):
        score_layers(Wrapped(model), ["model.a"], Taylor(), [(x, torch.tensor([0, 1, 2, 9]))])
    with pytest.raises(DataError, match="one score per class"):
        score_layers(seeded(lambda: nn.Sequential(conv(), conv(4, 3))), ["0"], Taylor(), [(x, torch.zeros(4))])
    assert (
        score_layers(Wrapped(model), ["model.a"], Taylor(), [(x, torch.arange(4) % 3)]).layers["model.a"].values.all()
    )


class Wrapped(nn.Module):
    """A network within another."""

    def __init__(self, model) -> None:
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x)


class Frozen(Wrapped):
    """A network without gradients."""

    def forward(self, x):
        return super().forward(x).detach()


def test_what_cannot_be_scored_is_said():
    model, x = small(), images(4)

    with pytest.raises(ModelError, match="gradients"):
        score_layers(Frozen(model), ["model.a"], Sum(), split(x))
    with pytest.raises(DataError, match="at least 2"):
        score_layers(model, ["a"], Sum(), [(x[:1], torch.zeros(1))])
    with pytest.raises(DataError, match="NaN or infinity in input"):
        score_layers(model, ["a"], Sum(), [(x * float("nan"), torch.zeros(4))])
    with pytest.raises(DataError, match="needs calibration data"):
        score_layers(model, ["a"], Sum())


class Crooked(Sum):
    """Directions of another shape (higher: keep)."""

    def directions(self, outputs, labels):
        return torch.ones_like(outputs)


class Endless(Sum):
    """Directions that are not finite (higher: keep)."""

    def directions(self, outputs, labels):
        return torch.full_like(outputs, float("inf"))[None]


@pytest.mark.parametrize("criterion", [Crooked(), Endless()])
def test_bad_directions_are_refused(criterion):
    with pytest.raises(CriterionError, match="directions"):
        score_layers(small(), ["a"], criterion, split(images(4)))


def test_parameters_that_are_frozen_change_nothing():
    model, x = small(), images(6)
    free = score_layers(model, ["a", "b"], Persistence(), split(x))
    for parameter in model.parameters():
        parameter.requires_grad_(False)

    assert plain(score_layers(model, ["a", "b"], create("persistence"), split(x))) == plain(free)


def chain(*, norms):
    parts = (conv(3, 6), nn.BatchNorm2d(6), nn.ReLU(), conv(6, 5), nn.BatchNorm2d(5), nn.ReLU())
    kept = [part for part in parts if norms or not isinstance(part, nn.BatchNorm2d)]
    return nn.Sequential(*kept, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))


def test_settled_rounds_look_at_networks_with_new_statistics(monkeypatch):
    net, drifts, gone = seeded(lambda: chain(norms=True)), [], []

    def watched(effects, alive, drift, count, extra):
        found = least_joint(effects, alive, drift, count, extra)
        drifts.append(drift.copy())
        gone.append(found)
        return found

    monkeypatch.setattr(gradients, "least_joint", watched)
    inputs = images(24)
    batches = split(inputs, 8)
    criterion = Persistence(looks=2, draws=1, settled=True)
    before = copy.deepcopy(net.state_dict())
    score_layers(net, ["0"], criterion, batches)

    smaller = copy.deepcopy(net)
    with torch.no_grad():
        smaller[1].weight[gone[0]] = 0  # what the filter's reader sees is 0, whatever its statistics
        smaller[1].bias[gone[0]] = 0
        smaller = recalibrate_batchnorm(smaller, batches)
        outputs = net(inputs)
        along = criterion.directions(outputs, None)[0]
        expected = ((smaller(inputs) - outputs) * along).sum(dim=1)
    assert len(gone[0]) == 3
    np.testing.assert_allclose(drifts[1], expected.numpy(), rtol=1e-3, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module.training for module in net.modules())


def test_without_norms_there_is_nothing_to_settle():
    batches = split(images(20), 8)
    net = seeded(lambda: chain(norms=False))
    found = [score(net, batches, criterion=Persistence(looks=3, settled=settled)) for settled in (False, True)]

    for layer, values in found[0].layers.items():
        assert values.values.tolist() == found[1].layers[layer].values.tolist()
