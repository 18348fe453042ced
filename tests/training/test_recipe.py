import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from topocompress.errors import DataError
from topocompress.training.recipe import Recipe


def rates(total, steps_per_epoch, **settings):
    return Recipe(epochs=1, lr=0.1, **settings).rates(total, steps_per_epoch)


def test_cosine_rises_over_a_twentieth_and_falls_towards_zero():
    found = [rate for rate, _ in rates(100, 20)]
    assert found[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert max(found) == pytest.approx(0.1)
    assert found[4:] == sorted(found[4:], reverse=True)
    assert found[4 + 48] == pytest.approx(0.05)  # 48 of 96 cosine steps: half way
    assert 0 < found[-1] < 1e-4
    assert len(found) == 100
    assert rates(1, 1) == [(pytest.approx(0.1), 0.9)]
    assert rates(0, 1) == []
    assert {momentum for _, momentum in rates(100, 20)} == {0.9}


def test_one_cycle_by_hand():
    found = rates(10, 5, schedule="one-cycle")
    assert found[0] == pytest.approx((0.1 / 25, 0.95))
    assert found[1] == pytest.approx(((0.004 + 0.1) / 2, 0.90))  # half way up: the peak is at 0.3 · 10 - 1 = 2
    assert found[2] == pytest.approx((0.1, 0.85))
    assert found[9] == pytest.approx((0.004 / 1e4, 0.95))


@pytest.mark.parametrize("total", [4, 10, 37, 100])
def test_one_cycle_is_that_of_torch(total):
    weight = torch.nn.Parameter(torch.zeros(1))
    sgd = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    theirs = torch.optim.lr_scheduler.OneCycleLR(sgd, max_lr=0.1, total_steps=total)
    for step, found in enumerate(rates(total, total, schedule="one-cycle")):
        assert (sgd.param_groups[0]["lr"], sgd.param_groups[0]["momentum"]) == pytest.approx(found)
        sgd.step()
        if step < total - 1:
            theirs.step()


@given(
    total=st.integers(1, 300),
    momentum=st.floats(0.01, 0.99),
    lr=st.floats(1e-6, 10),
    schedule=st.sampled_from(["cosine", "one-cycle"]),
)
def test_every_rate_is_usable(total, momentum, lr, schedule):
    recipe = Recipe(epochs=1, lr=lr, momentum=momentum, schedule=schedule)
    found = recipe.rates(total, 10)
    assert len(found) == total
    assert all(0 < rate <= lr * (1 + 1e-9) and 0 <= inertia < 1 for rate, inertia in found)
    assert max(rate for rate, _ in found) > lr / 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": -1}, "epochs must be 0 or more, got -1"),
        ({"lr": 0.0}, "learning rate"),
        ({"lr": math.nan}, "learning rate"),
        ({"batch_size": 1}, "batch size must be 2 or more"),
        ({"accumulate": 0}, "accumulate must be 1 or more"),
        ({"momentum": 1.0}, "momentum must lie between 0 and 1"),
        ({"weight_decay": -1.0}, "weight decay must be 0 or more"),
        ({"label_smoothing": 1.5}, "label smoothing must lie in 0..1"),
        ({"distill": 1.1}, "distillation must lie in 0..1"),
        ({"temperature": 0.0}, "temperature must be a number above 0"),
        ({"patience": 0}, "patience must be 1 or more"),
        ({"precision": "fp8"}, "precision must be no, bf16 or fp16, got 'fp8'"),
        ({"schedule": "linear"}, "schedule must be cosine or one-cycle, got 'linear'"),
    ],
)
def test_settings_out_of_range(setting, message):
    with pytest.raises(DataError, match=message):
        Recipe(**{"epochs": 1, **setting})


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(DataError, match=r"epochs must .*; the learning rate must .*; patience must"):
        Recipe(epochs=-1, lr=-1.0, patience=-3)


def test_labels_play_no_part_where_distillation_has_all_the_weight():
    assert Recipe(epochs=1, distill=1.0).label_free
    assert not Recipe(epochs=1, distill=0.99).label_free
