"""A network run as it is trained, without chance and without a trace."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from topocompress.network.modes import Run, in_mode, outputs_of


class Trained(nn.Module):
    """Counts its runs in a buffer, replaces another, drops, and normalises by the batch it sees."""

    def __init__(self, drop):
        super().__init__()
        self.norm, self.layer, self.drop = nn.BatchNorm2d(3), nn.Dropout(0.5), drop
        self.register_buffer("runs", torch.zeros(()))
        self.register_buffer("last", torch.zeros(()))
        self.own = nn.Identity()

    def forward(self, x):
        x = self.layer(self.norm(x))
        if self.training:
            self.runs += 1
            self.last = x.detach()
            return self.drop(x) + 1
        return x


DROPS = {
    "dropout": lambda x: F.dropout(x, 0.5),
    "dropout2d": lambda x: F.dropout2d(x, p=0.5, training=True),
    "torch": lambda x: torch.dropout(x, 0.5, True),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5),
    "attention by place": lambda x: F.scaled_dot_product_attention(x, x, x, None, 0.5),
    "by keyword": lambda x: F.dropout(input=x, p=0.5),
}


@pytest.mark.parametrize("name", DROPS)
def test_training_without_chance_and_without_a_trace(name):
    model = Trained(DROPS[name])
    model.norm.eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    modes, random = [module.training for module in model.modules()], torch.get_rng_state()
    inputs = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    first, second = (outputs_of(model, Run(inputs, training=True))[0] for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, outputs_of(model, Run(inputs))[0])
    assert {key: value.tolist() for key, value in model.state_dict().items()} == {
        key: value.tolist() for key, value in state.items()
    }
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)


def test_modules_see_the_mode_that_is_asked_for():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Dropout()).train()
    with in_mode(model, training=False):
        assert not any(module.training for module in model.modules())
    with in_mode(model, training=True):
        assert [module.training for module in model] == [True, False, False]
        assert model.training
    assert all(module.training for module in model.modules())
