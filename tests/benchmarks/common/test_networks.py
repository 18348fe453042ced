"""Weights with which different images give different outputs."""

import pytest
import torch
from torch import nn

from benchmarks.common.networks import make_informative, relative_spread


class Deep(nn.Module):
    """Twenty layers without norms, a layer scale and a zero head."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(*(part for _ in range(20) for part in (nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())))
        self.scale, self.norm = nn.Parameter(torch.ones(3, 1, 1) * 1e-6), nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 5)
        nn.init.zeros_(self.head.weight)

    def forward(self, x):
        return self.head(self.norm(x + self.scale * self.body(x)).mean((2, 3)))


def test_weights_become_informative_in_one_pass():
    images = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    model, twin, other = Deep(), Deep(), Deep()
    assert relative_spread(model.eval()(images)) == 0
    before = torch.get_rng_state()
    make_informative(model, images)
    make_informative(twin, images)
    make_informative(other, images, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.no_grad():
        outputs, wide = model(images), model.norm(images + model.scale * model.body(images))
        assert torch.equal(outputs, twin(images))
        assert not torch.allclose(outputs, other(images), atol=0.1)
        first = model.body[0](images)
    assert relative_spread(outputs) > 0.3
    # Each channel has the deviation and the mean that were drawn for it.
    assert first.std((0, 2, 3), correction=0).gt(0.49).all() and first.std((0, 2, 3), correction=0).lt(1.51).all()
    assert first.mean((0, 2, 3)).abs().lt(0.51).all()
    assert torch.allclose(wide.mean((0, 2, 3)), model.norm.bias, atol=1e-4)
    assert torch.allclose(wide.std((0, 2, 3), correction=0), model.norm.weight, atol=1e-2)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_spread_is_relative_and_zero_without_differences():
    outputs = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    assert relative_spread(outputs) == pytest.approx(2**0.5)
    assert relative_spread(7 * outputs) == pytest.approx(2**0.5)
    assert relative_spread(torch.ones(3, 4)) == 0
