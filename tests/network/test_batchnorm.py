import math

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tests.helpers.trained import digits, held_out_part, trained, untrained
from topocompress.deploy.measurement import evaluate
from topocompress.errors import DataError, ModelError
from topocompress.network.batchnorm import match_moments, named_statistics, recalibrate_batchnorm


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same_state(model: nn.Module, state: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_recalibration_averages_mean_and_unbiased_variance_over_the_batches():
    norm = nn.BatchNorm2d(1)
    batches = [torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1), torch.tensor([10.0, 14.0]).reshape(2, 1, 1, 1)]

    tuned = recalibrate_batchnorm(nn.Sequential(norm), batches)[0]

    assert tuned.running_mean.item() == pytest.approx((2 + 12) / 2)
    assert tuned.running_var.item() == pytest.approx((2 + 8) / 2)  # of 1, 3 and of 10, 14, divided by n - 1
    assert tuned.momentum == norm.momentum
    assert (norm.running_mean.item(), norm.running_var.item()) == (0.0, 1.0)


def test_recalibration_skips_batches_of_one_and_reads_labelled_batches():
    pair = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1)
    single = torch.full((1, 1, 1, 1), 1e6)
    tuned = recalibrate_batchnorm(nn.Sequential(nn.BatchNorm2d(1)), [(single, None), (pair, torch.zeros(2))])
    assert tuned[0].running_mean.item() == pytest.approx(2)


def test_recalibration_keeps_dropout_off():
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(1)).train()
    tuned = recalibrate_batchnorm(model, [torch.ones(64, 1, 2, 2)])
    assert tuned[1].running_mean.item() == 1.0  # with dropout the maps would be 0 or 2
    assert tuned[1].running_var.item() == 0.0


def test_recalibration_repairs_a_network_whose_statistics_are_off():
    model = trained()
    loader = DataLoader(held_out_part(), batch_size=100)
    good = evaluate(model, loader).accuracy
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.add_(2.0)
    broken = evaluate(model, loader).accuracy
    images, _ = digits()
    repaired = evaluate(recalibrate_batchnorm(model, images[:1200].split(100)), loader).accuracy
    assert broken < good - 0.1
    assert repaired > good - 0.03


def test_recalibration_without_batchnorm_returns_an_equal_copy():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False))
    tuned = recalibrate_batchnorm(model, [])
    assert tuned is not model
    assert same_state(tuned, state_of(model))


def test_recalibration_leaves_the_model_its_flags_and_the_random_state():
    model = untrained().train()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    before, random = state_of(model), torch.get_rng_state()
    tuned = recalibrate_batchnorm(model, DataLoader(held_out_part(), batch_size=64, shuffle=True))
    assert same_state(model, before)
    assert [module.training for module in model.modules()] == modes
    assert [module.training for module in tuned.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("batches", [[], [torch.ones(1, 1, 8, 8)]])
def test_recalibration_needs_a_batch_of_two(batches):
    with pytest.raises(DataError, match="at least 2 samples"):
        recalibrate_batchnorm(untrained(), batches)


def test_recalibration_refuses_nan_and_misfits():
    with pytest.raises(ModelError, match="NaN or infinity"):
        recalibrate_batchnorm(untrained(), [torch.full((4, 1, 8, 8), math.nan)])
    with pytest.raises(ModelError, match=r"\(4, 3, 8, 8\)"):
        recalibrate_batchnorm(untrained(), [torch.ones(4, 3, 8, 8)])


class Affine(nn.Module):
    def __init__(self, factor: list[float], offset: list[float]) -> None:
        super().__init__()
        self.factor, self.offset = (torch.tensor(each).view(1, -1, 1, 1) for each in (factor, offset))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor + self.offset


def normalised(factor: list[float], offset: list[float], mean: list[float], variance: list[float]) -> nn.Sequential:
    norm = nn.BatchNorm2d(len(mean))
    norm.running_mean, norm.running_var = torch.tensor(mean), torch.tensor(variance)
    return nn.Sequential(Affine(factor, offset), norm).eval()


def test_matching_keeps_what_a_channel_was_after_its_norm() -> None:
    images = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1)  # mean 0, variance 1
    original = normalised([1.0, 2.0], [0.0, 2.0], mean=[0.0, 1.0], variance=[1.0, 4.0])
    pruned = normalised([6.0], [5.0], mean=[1.0], variance=[4.0])  # the second channel, three times as strong

    matched = match_moments(pruned, original, {"1": torch.tensor([1])}, [images])

    # Before: mean 2, variance 4, normalised by 1 and 4. Now: mean 5, variance 36.
    assert matched[1].running_var.item() == pytest.approx(36, rel=1e-2)
    assert matched[1].running_mean.item() == pytest.approx(5 - (2 - 1) * 3, rel=1e-2)
    with torch.no_grad():
        assert torch.allclose(matched(images)[:, 0], original(images)[:, 1], atol=1e-2)
    assert pruned[1].running_mean.item() == 1.0
    assert original[1].running_var.tolist() == [1.0, 4.0]
    assert not any(module._forward_pre_hooks for net in (original, pruned, matched) for module in net.modules())


def test_matching_changes_nothing_where_nothing_was_removed() -> None:
    images, _ = digits()
    model = trained()
    kept = {name: torch.arange(norm.num_features) for name, norm in named_statistics(model).items()}
    matched = match_moments(model, model, kept, [images[:50], images[50:100]])
    for mine, other in zip(named_statistics(matched).values(), named_statistics(model).values(), strict=True):
        assert torch.allclose(mine.running_mean, other.running_mean, atol=1e-5)
        assert torch.allclose(mine.running_var, other.running_var, rtol=1e-5)


def test_matching_leaves_norms_alone_that_it_knows_nothing_of() -> None:
    images = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1)
    pruned = normalised([6.0], [5.0], mean=[1.0], variance=[4.0])
    before = state_of(pruned)
    assert same_state(match_moments(pruned, nn.Identity(), {"1": torch.tensor([0])}, [images]), before)
    assert same_state(match_moments(pruned, pruned, {}, [images]), before)


def test_matching_says_nothing_of_a_channel_that_is_silent() -> None:
    images = torch.zeros(2, 1, 1, 1)
    original = normalised([1.0], [0.0], mean=[0.0], variance=[4.0])
    matched = match_moments(
        normalised([3.0], [0.0], mean=[0.0], variance=[4.0]), original, {"1": torch.tensor([0])}, [images]
    )
    assert matched[1].running_var.item() == pytest.approx(4.0)
