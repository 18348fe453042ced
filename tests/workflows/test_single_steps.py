import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import topocompress
from topocompress.criteria import L1, Betti
from topocompress.deploy.export import export_onnx
from topocompress.errors import CriterionError, DataError, ModelError, PlanError
from topocompress.models.loading import fingerprint
from topocompress.workflows.single_steps import layer_costs, measure, plan, score

EXAMPLE = torch.zeros(1, 1, 8, 8)


class Small(nn.Module):
    """Two convolutions of which the second is depthwise, a third, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.body = nn.Conv2d(8, 16, 3, stride=2)
        self.hidden = nn.Linear(16, 12)
        self.classify = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.body(self.depthwise(self.stem(x)))).mean(dim=(2, 3))
        return self.classify(torch.relu(self.hidden(x)))


def small() -> Small:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Small()


def batches(samples: int = 24) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(samples, 1, 8, 8, generator=generator)
    labels = torch.randint(0, 4, (samples,), generator=generator)
    return list(zip(x.split(10), labels.split(10), strict=True))


def by_l1() -> tuple[Small, topocompress.types.Scores]:
    """The first filters are the weakest, by far."""
    model = small()
    with torch.no_grad():
        for layer in (model.stem[0], model.depthwise, model.body):
            layer.weight.copy_(torch.arange(1.0, len(layer.weight) + 1).reshape(-1, 1, 1, 1).expand_as(layer.weight))
    return model, score(model, example=EXAMPLE, criterion="l1")


# --- score ---


def test_every_convolution_that_can_be_pruned_is_scored_and_the_model_is_left_alone():
    model = small()
    model.train()
    before, random_state = copy.deepcopy(model.state_dict()), torch.get_rng_state()

    scores = score(model, batches())

    assert {name: len(layer.values) for name, layer in scores.layers.items()} == {
        "stem.0": 8,
        "depthwise": 8,
        "body": 16,
    }
    assert (scores.criterion, scores.samples, scores.model) == ("betti", 24, fingerprint(model))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_linear_layers_on_request():
    assert list(score(small(), batches(), linear=True).layers) == ["stem.0", "depthwise", "body", "hidden"]


def test_a_criterion_by_name_or_as_an_object():
    model = small()

    named, made = score(model, example=EXAMPLE, criterion="l1"), score(model, example=EXAMPLE, criterion=L1())

    for name, layer in named.layers.items():
        assert layer.values.tolist() == made.layers[name].values.tolist()
    expected = model.body.weight.detach().abs().sum(dim=(1, 2, 3)).tolist()
    assert named.layers["body"].values == pytest.approx(expected, rel=1e-6)


def test_settings_of_an_object_count():
    scores = score(small(), batches(), criterion=Betti(scale="relative:0.5", dimensions=(0,)))

    assert scores.settings == {"scale": "relative:0.5", "dimensions": [0]}
    assert set(scores.layers["body"].parts) == {"beta0"}


def test_memory_and_progress_are_passed_on():
    seen = []

    scores = score(small(), batches(), memory=1, progress=lambda *step: seen.append(step))

    assert scores.run["passes"] == 8 + 8 + 16
    assert ("scoring filters", 32, 32) in seen


def test_ignored_layers_are_not_scored():
    scores = score(small(), batches(), ignore=["body"])

    assert "body" not in scores.layers
    assert "stem.0" in scores.layers


def test_a_pattern_without_a_layer_is_refused():
    with pytest.raises(PlanError, match="'bodyy' matches no layer") as caught:
        score(small(), batches(), ignore=["bodyy"])
    assert "stem" in caught.value.hint


def test_an_unknown_criterion_is_refused():
    with pytest.raises(CriterionError, match="'bety'"):
        score(small(), batches(), criterion="bety")


@pytest.mark.parametrize("data", [None, []])
def test_without_batches_and_example_there_is_nothing_to_trace(data):
    with pytest.raises(DataError, match="example input"):
        score(small(), data, criterion="l1")


def test_an_example_does_not_replace_the_samples():
    with pytest.raises(DataError, match="needs calibration data"):
        score(small(), example=EXAMPLE)


def test_a_wrong_example_is_refused_with_its_shape():
    with pytest.raises(ModelError, match=r"\(1, 3, 8, 8\)"):
        score(small(), batches(), example=torch.zeros(1, 3, 8, 8))


def test_a_model_with_nothing_to_prune_says_why():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))

    with pytest.raises(PlanError, match=r"nothing in this model can be pruned.*feeds the model's output"):
        score(flat, batches())


def test_linear_layers_are_pruned_on_request_or_where_nothing_else_can_be():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4))
    mixed = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 3), *flat)
    mixed[3] = nn.Linear(2 * 4 * 4, 8)

    assert list(score(flat, batches()).layers) == ["1"]
    assert "3" not in score(mixed, batches()).layers
    assert "3" in score(mixed, batches(), linear=True).layers


# --- costs ---


def test_costs_by_hand():
    costs = layer_costs(small(), EXAMPLE)

    found = {name: (cost.macs, cost.outputs, cost.inputs) for name, cost in costs.items()}
    assert found == {
        "stem.0": (64 * 9 * 1 * 8, 8, 1),
        "depthwise": (64 * 9 * 8, 8, 0),
        "body": (9 * 9 * 8 * 16, 16, 8),
        "hidden": (16 * 12, 12, 16),
        "classify": (12 * 4, 4, 12),
    }


# --- plan ---


def removed(found) -> dict[str, tuple[int, ...]]:
    return {group.root: group.remove for group in found.groups if group.remove}


def test_ratio_removes_the_weakest_of_every_group():
    model, scores = by_l1()

    found = plan(model, scores, example=EXAMPLE, ratio=0.25, round_to=1)

    assert removed(found) == {"stem.0": (0, 1), "body": (0, 1, 2, 3)}
    assert found.rule["ratio"] == 0.25
    assert (found.criterion, found.model, found.removed) == ("l1", fingerprint(model), 6)
    assert found.macs_before == 64 * 9 * 8 * 2 + 81 * 8 * 16 + 16 * 12 + 12 * 4
    assert found.macs_after == 64 * 9 * 6 * 2 + 81 * 6 * 12 + 12 * 12 + 12 * 4


def test_limits_reach_the_plan():
    model, scores = by_l1()

    def widths(**limits) -> dict[str, int]:
        found = plan(model, scores, example=EXAMPLE, ratio=0.5, **limits)
        return {group.root: group.kept for group in found.groups if group.remove}

    assert widths(round_to=1) == {"stem.0": 4, "body": 8}
    assert widths(round_to=1, min_channels=6) == {"stem.0": 6, "body": 8}
    assert widths(round_to=1, max_ratio=0.25) == {"stem.0": 6, "body": 12}
    assert {width % 3 for width in widths(round_to=3).values()} == {0}
    assert widths(round_to=1, ignore=["body"]) == {"stem.0": 4}


def test_macs_target_is_reached():
    model, scores = by_l1()

    found = plan(model, scores, example=EXAMPLE, target_macs=0.6, round_to=1)

    assert 0.4 * found.macs_before < found.macs_after <= 0.6 * found.macs_before
    assert topocompress.apply(model, found, example=EXAMPLE)(EXAMPLE).shape == (1, 4)


def test_max_betti_removes_what_lies_above():
    model = small()
    scores = score(model, batches(), criterion=Betti(scale="absolute:0.3"))
    body = scores.layers["body"]
    threshold = float(np.sort(body.values)[12])
    above, dead = set(np.nonzero(body.values > threshold)[0].tolist()), set(np.nonzero(body.dead)[0].tolist())
    assert 0 < len(above) < 8
    assert 0 < len(dead) < 8

    found = plan(model, scores, example=EXAMPLE, max_betti=threshold, round_to=1, ignore=["stem.0"])

    assert removed(found) == {"body": tuple(sorted(above | dead))}


def test_linear_layers_are_planned_on_request():
    model = small()
    scores = score(model, example=EXAMPLE, criterion="l1", linear=True)

    without = plan(model, scores, example=EXAMPLE, ratio=0.5, round_to=1)
    found = plan(model, scores, example=EXAMPLE, ratio=0.5, round_to=1, linear=True)

    assert "hidden" not in removed(without)
    assert len(removed(found)["hidden"]) == 6


@pytest.mark.parametrize("rules", [{}, {"ratio": 0.5, "max_betti": 3}, {"ratio": 1.5}, {"max_betti": 3}])
def test_rules_that_cannot_be_used_are_refused(rules):
    model, scores = by_l1()  # of l1 a high score means keep: max_betti does not fit

    with pytest.raises(PlanError, match=r"max_betti=|ratio="):
        plan(model, scores, example=EXAMPLE, **rules)


# --- measure ---


def test_measure_counts_without_a_file_or_samples():
    model = small()

    found = measure(model, example=EXAMPLE)

    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.macs == 64 * 9 * 8 * 2 + 81 * 8 * 16 + 16 * 12 + 12 * 4
    assert (found.file_bytes, found.accuracy, found.agreement, found.latency, found.peak_bytes) == (
        *(None, None, None),
        (),
        None,
    )


def test_measure_with_samples_a_reference_and_a_file(tmp_path):
    model, samples = small().eval(), batches()
    with torch.no_grad():
        top = torch.cat([model(x).argmax(dim=1) for x, _ in samples])
    labels = torch.cat([y for _, y in samples])
    export_onnx(model, tmp_path / "model.onnx", samples=samples[0][0])

    found = measure(
        model, example=EXAMPLE, evaluation=samples, reference=model, onnx=tmp_path / "model.onnx", batch_sizes=(2,)
    )

    assert found.accuracy == pytest.approx((top == labels).float().mean().item())
    assert found.agreement == 1
    assert found.file_bytes == (tmp_path / "model.onnx").stat().st_size
    assert [latency.batch for latency in found.latency] == [2]
    assert found.latency[0].median_ms > 0
    assert found.peak_bytes is None or found.peak_bytes > 1 << 20
