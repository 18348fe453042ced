"""Blocks that learn from the original: which part learns from what, and that nothing else moves."""

import copy

import pytest
import torch
from torch import nn

from topocompress import apply, distill_blocks, plan, reconstruct, score
from topocompress.errors import DataError, ModelError


class Block(nn.Module):
    def __init__(self, inner=8) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(4, inner, 3, padding=1), nn.BatchNorm2d(inner), nn.Conv2d(inner, 4, 1)

    def forward(self, x):
        return torch.relu(x + self.b(torch.relu(self.norm(self.a(x)))))


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second, self.head = nn.Conv2d(3, 4, 1), Block(), Block(), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.second(self.first(torch.relu(self.stem(x)))).mean((2, 3)))


def network():
    torch.manual_seed(0)
    return Stack().eval()


def images(count=200):
    return torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def pruned(model):
    batches = [(images(), torch.zeros(200))]
    chosen = plan(
        model, score(model, batches, criterion="l1"), example=images(1), ratio=0.5, ignore=("stem", "*.b"), round_to=1
    )
    smaller = apply(model, chosen, example=images(1))
    return reconstruct(smaller, model, chosen, [images()]).model


def error(model, original):
    with torch.no_grad():
        return float((model(images()) - original(images())).square().mean())


def test_a_pruned_network_comes_nearer_to_the_original_and_both_that_were_given_stay():
    model = network()
    cut = pruned(model)
    before = copy.deepcopy(cut.state_dict()), copy.deepcopy(model.state_dict())

    taught = distill_blocks(cut, model, [images()], epochs=40)

    assert error(taught, model) < 0.95 * error(cut, model)
    for kept, now in zip(before, (cut.state_dict(), model.state_dict()), strict=True):
        assert all(torch.equal(kept[name], value) for name, value in now.items())
    assert not taught.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in taught.parameters())


def test_a_block_learns_from_its_own_joint_alone():
    """With the first block as it was, nothing is to be learnt before the joint behind it."""
    model = network()
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.second.a.weight.mul_(0.5)

    taught = distill_blocks(changed, model, [images()], epochs=3)

    for name in ("stem.weight", "first.a.weight", "first.b.weight"):
        assert torch.equal(taught.state_dict()[name], model.state_dict()[name]), name
    assert not torch.equal(taught.second.a.weight, changed.second.a.weight)


def test_statistics_and_what_did_not_require_gradients_are_as_before():
    model = network()
    cut = pruned(model)
    cut.stem.weight.requires_grad_(False)

    taught = distill_blocks(cut, model, [images()], epochs=2)

    assert torch.equal(taught.first.norm.running_var, cut.first.norm.running_var)
    assert not taught.stem.weight.requires_grad


def test_a_chain_without_streams_learns_from_its_outputs():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 3)).eval()
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed[0].weight.mul_(0.5)

    assert error(distill_blocks(changed, model, [images()], epochs=30), model) < 0.5 * error(changed, model)


def test_the_same_seed_gives_the_same_network_and_global_random_state_is_left_alone():
    model = network()
    cut, state = pruned(model), torch.get_rng_state()

    one, other = (distill_blocks(cut, model, [images()], epochs=2, seed=5) for _ in range(2))

    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    different = distill_blocks(cut, model, [images()], epochs=2, seed=6)
    assert not torch.equal(different.head.weight, one.head.weight)


def test_it_says_how_far_it_is():
    seen = []

    distill_blocks(pruned(network()), network(), [images()], epochs=2, progress=lambda *step: seen.append(step))

    assert seen == [("distilling blocks", done, 6) for done in range(1, 7)]


def test_what_cannot_learn_is_refused():
    with pytest.raises(DataError, match="3 samples to learn from"):
        distill_blocks(network(), network(), [images(3)], epochs=1)

    class Frozen(Stack):
        @torch.no_grad()
        def forward(self, x):
            return super().forward(x)

    with pytest.raises(ModelError, match="gradients can follow"):
        distill_blocks(Frozen(), Frozen(), [images()], epochs=1)


def test_where_the_stream_itself_lost_channels_everything_before_learns_too():
    model = network()
    batches = [(images(), torch.zeros(200))]
    chosen = plan(model, score(model, batches, criterion="l1"), example=images(1), ratio=0.5, round_to=1)
    smaller = apply(model, chosen, example=images(1))
    assert smaller.stem.out_channels == 2

    taught = distill_blocks(smaller, model, [images()], epochs=2)

    for name, value in smaller.named_parameters():
        assert not torch.equal(taught.get_parameter(name), value), name


def test_frozen_parameters_stay():
    model = network()
    cut = pruned(model)
    cut.first.a.weight.requires_grad_(False)

    taught = distill_blocks(cut, model, [images()], epochs=2)

    assert torch.equal(taught.first.a.weight, cut.first.a.weight)
    assert not torch.equal(taught.first.b.weight, cut.first.b.weight)


@pytest.mark.parametrize(
    ("batches", "epochs", "message"),
    [
        ([], 1, "0 samples"),
        ([images(20).index_fill(0, torch.tensor([3]), float("nan"))], 1, "NaN or infinity in the samples"),
        ([images(10), images(10)[..., :5]], 1, "differ in shape"),
        ([images(20)], 0, "0 epochs"),
        ([images(20)], 1.5, "1.5 epochs"),
    ],
)
def test_samples_and_epochs_that_cannot_be_are_refused(batches, epochs, message):
    with pytest.raises(DataError, match=message):
        distill_blocks(network(), network(), batches, epochs=epochs)


def test_networks_that_have_nothing_to_do_with_each_other_are_refused():
    other = network()
    other.head = nn.Linear(4, 7)
    with pytest.raises(ModelError, match="outputs of different shapes"):
        distill_blocks(network(), other, [images()], epochs=1)


def test_a_network_that_gives_nan_is_refused():
    broken = network()
    with torch.no_grad():
        broken.first.a.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ModelError, match="NaN or infinity"):
        distill_blocks(broken, network(), [images()], epochs=1)
