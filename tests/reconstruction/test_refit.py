"""Layers refitted: cases that can be solved by hand, and what must hold for every network."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from topocompress import plan, reconstruct, score
from topocompress.criteria import Random, WeightCriterion
from topocompress.errors import DataError, SurgeryError
from topocompress.models.loading import fingerprint
from topocompress.network.inference import evaluating
from topocompress.reconstruction.streams import Holding
from topocompress.surgery.removal import apply


class First(WeightCriterion):
    """The first channels go first."""

    name, higher = "first", "keep"

    def score(self, weights):
        return torch.arange(float(len(weights)))


def pruned(model, images, ratio=0.5, criterion=None):
    """The plan by a criterion, and the model without its channels."""
    example = images[:1]
    scores = score(model, None, example=example, criterion=criterion or First())
    chosen = plan(model, scores, example=example, ratio=ratio, round_to=1)
    return chosen, apply(model, chosen, example=example)


def images(samples=60, channels=3, size=8, seed=0):
    return torch.randn(samples, channels, size, size, generator=torch.Generator().manual_seed(seed))


def outputs(model, inputs):
    with evaluating(model):
        return model(inputs)


def distance(model, original, inputs):
    expected = outputs(original, inputs)
    return float((outputs(model, inputs) - expected).square().mean() / expected.var())


def seeded(make):
    torch.manual_seed(0)
    model = make().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model


def mixed(layer, gone=4):
    """Its first outputs are linear combinations of the others."""
    with torch.no_grad():
        mixing = torch.randn(gone, layer.out_channels - gone)
        layer.weight[:gone] = torch.einsum("gk,k...->g...", mixing, layer.weight[gone:])
        if layer.bias is not None:
            layer.bias[:gone] = mixing @ layer.bias[gone:]
    return layer


class Block(nn.Module):
    """Two convolutions with a norm behind each, added to what they read."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.one, self.two = nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.Conv2d(8, 6, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(8), nn.BatchNorm2d(6)])
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        stream = self.stem(x)
        stream = F.relu(stream + self.norms[1](self.two(F.relu(self.norms[0](self.one(stream))))))
        return self.head(stream.mean((2, 3)))


class Joined(nn.Module):
    """Two branches, one behind the other in a concatenation."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3)
        self.out = nn.Conv2d(16, 5, 1)

    def forward(self, x):
        return self.out(torch.cat([self.left(x).relu(), self.right(x).tanh()], dim=1)).mean((2, 3))


NETWORKS = {
    "chain": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 5)
    ),
    "norms": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    ),
    "depthwise": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.ReLU(),
        nn.Conv2d(8, 5, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ),
    "stream": Block,
    "concatenation": Joined,
}


def test_a_channel_that_others_can_say_is_removed_at_no_error():
    model = seeded(lambda: nn.Sequential(mixed(nn.Conv2d(3, 8, 3)), nn.Conv2d(8, 6, 3), nn.ReLU()))
    chosen, bare = pruned(model, images())
    found = reconstruct(bare, model, chosen, [images()])
    assert distance(bare, model, images(seed=1)) > 0.1
    assert distance(found.model, model, images(seed=1)) < 1e-6
    (refit,) = found.layers
    assert refit.layer == "1"
    assert refit.after < 1e-6 < refit.before


def test_a_norm_behind_takes_the_offset_of_a_layer_without_a_bias():
    model = seeded(
        lambda: nn.Sequential(mixed(nn.Conv2d(3, 8, 3)), nn.Conv2d(8, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU())
    )
    with torch.no_grad():
        model[0].bias[:4] += 2  # constants that nobody else says
    chosen, bare = pruned(model, images())
    found = reconstruct(bare, model, chosen, [images()])
    assert distance(found.model, model, images(seed=1)) < 1e-4 < distance(bare, model, images(seed=1))
    assert not torch.equal(found.model[2].running_mean, bare[2].running_mean)


def test_a_linear_layer_behind_flatten_is_refitted():
    model = seeded(lambda: nn.Sequential(mixed(nn.Conv2d(3, 8, 3)), nn.Flatten(), nn.Linear(8 * 4, 5)))
    small = images(200, size=4)
    chosen, bare = pruned(model, small)
    found = reconstruct(bare, model, chosen, [small])
    assert distance(found.model, model, images(size=4, seed=1)) < 1e-5 < distance(bare, model, images(size=4, seed=1))


def test_what_a_stream_lacks_is_repaired_by_the_layer_that_adds_to_it():
    """The second branch of the sum can say what the first, damaged one no longer does."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.reads = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 1)
            self.second = nn.Conv2d(3, 6, 1)

        def forward(self, x):
            damaged = self.reads(self.first(x).relu())
            return self.second(x) + damaged

    model = seeded(Two)
    chosen, bare = pruned(model, images(), ratio=0.6)
    found = reconstruct(bare, model, chosen, [images()])
    alone = copy.deepcopy(found.model)
    alone.second.load_state_dict(bare.second.state_dict())
    assert [refit.layer for refit in found.layers] == ["reads", "second"]
    assert distance(found.model, model, images(seed=1)) < 0.8 * distance(alone, model, images(seed=1))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_kind_of_network_comes_nearer_to_what_it_was(name):
    model = seeded(NETWORKS[name])
    chosen, bare = pruned(model, images())
    found = reconstruct(bare, model, chosen, list(images(200).split(50)))
    assert distance(found.model, model, images(seed=1)) < 0.8 * distance(bare, model, images(seed=1))
    assert all(refit.after <= refit.before for refit in found.layers)
    assert [type(module) for module in found.model.modules()] == [type(module) for module in bare.modules()]


def test_a_stream_is_held_no_longer_than_it_is_read(monkeypatch):
    held = []

    class Seen(Holding):
        def __init__(self, *given):
            super().__init__(*given)
            held.append(self)

    monkeypatch.setattr("topocompress.reconstruction.refit.Holding", Seen)
    model = seeded(Block)
    chosen, bare = pruned(model, images())
    reconstruct(bare, model, chosen, list(images().split(20)))
    assert [len(each.outputs) for each in held] == [1, 1, 1, 0, 0, 0]  # the original's passes, then what was let go


def test_a_norm_that_two_layers_share_keeps_its_mean():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(6)
            self.two, self.three = nn.Conv2d(8, 6, 3, bias=False), nn.Conv2d(6, 6, 3, bias=False)

        def forward(self, x):
            return self.norm(self.three(self.norm(self.two(self.one(x).relu())).relu()))

    model = seeded(Shared)
    chosen, bare = pruned(model, images())
    found = reconstruct(bare, model, chosen, [images()])
    assert torch.equal(found.model.norm.running_mean, bare.norm.running_mean)
    assert any(refit.ridge is not None for refit in found.layers)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_result_does_not_depend_on_batches_and_nothing_is_changed(name):
    model = seeded(NETWORKS[name])
    chosen, bare = pruned(model, images())
    before = fingerprint(model), fingerprint(bare), torch.get_rng_state()
    whole, parts = (
        reconstruct(bare, model, chosen, [(part, None) for part in images().split(size)], seed=3) for size in (60, 7)
    )
    assert (fingerprint(model), fingerprint(bare)) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert not any(m._forward_hooks or m._forward_pre_hooks for net in (model, bare) for m in net.modules())
    torch.testing.assert_close(
        outputs(whole.model, images(seed=1)), outputs(parts.model, images(seed=1)), rtol=1e-2, atol=1e-2
    )


@given(st.integers(0, 1000), st.sampled_from(sorted(NETWORKS)), st.sampled_from([0.3, 0.7]), st.integers(5, 12))
@settings(max_examples=15)
def test_few_samples_never_make_a_layer_worse_on_those_held_out(seed, name, ratio, samples):
    model = seeded(NETWORKS[name])
    chosen, bare = pruned(model, images(), ratio=ratio, criterion=Random(seed=seed))
    found = reconstruct(bare, model, chosen, [images(samples, seed=seed)], seed=seed)
    assert all(refit.after <= refit.before for refit in found.layers)
    assert outputs(found.model, images(4)).isfinite().all()


def test_where_nothing_is_removed_nothing_changes():
    model = seeded(Block)
    chosen, _ = pruned(model, images())
    nothing = (
        copy.replace(chosen, groups=())
        if hasattr(copy, "replace")
        else chosen.__class__(**{**vars(chosen), "groups": ()})
    )
    found = reconstruct(model, model, nothing, [images()])
    assert fingerprint(found.model) == fingerprint(model)
    assert found.layers == ()


def test_little_memory_takes_fewer_samples_and_rows():
    model = seeded(NETWORKS["chain"])
    chosen, bare = pruned(model, images())
    found = reconstruct(bare, model, chosen, list(images(200).split(50)), memory=1_000_000)
    assert 0 < found.samples < 200
    assert distance(found.model, model, images(seed=1)) < distance(bare, model, images(seed=1))


@pytest.mark.parametrize(
    ("batches", "memory", "message"),
    [([], None, "0 calibration samples"), ([images(4)], None, "4 calibration"), ([images()], 1000, "0 of 60 .* fit")],
)
def test_too_few_samples_are_refused(batches, memory, message):
    model = seeded(NETWORKS["chain"])
    chosen, bare = pruned(model, images())
    with pytest.raises(DataError, match=message):
        reconstruct(bare, model, chosen, batches, memory=memory)


def test_progress_counts_layers():
    model, told = seeded(NETWORKS["chain"]), []
    chosen, bare = pruned(model, images())
    reconstruct(bare, model, chosen, [images()], progress=lambda *step: told.append(step))
    assert told == [("reconstructing", 1, 2), ("reconstructing", 2, 2)]


def test_a_plan_for_another_network_is_refused():
    model, other = seeded(NETWORKS["chain"]), NETWORKS["chain"]()
    chosen, bare = pruned(model, images())
    with pytest.raises(SurgeryError, match="another model than the original"):
        reconstruct(bare, other, chosen, [images()])
