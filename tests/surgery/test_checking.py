"""Signals that are small beside a constant, and means over channels: what is taken for equal, and what is not."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers.tiny_nets import ALL, Chain, conv, example, seeded
from topocompress.errors import SurgeryError
from topocompress.surgery.checking import Yardstick, lively
from topocompress.surgery.removal import apply
from topocompress.surgery.trial import found_on_trial, prunable_groups
from topocompress.types import GroupPlan, PruningPlan


class ResponseNorm(nn.Module):
    """ConvNeXt V2's global response normalisation for maps (batch, c, h, w)."""

    def __init__(self, strength):
        super().__init__()
        self.gamma = nn.Parameter(strength * torch.randn(1, 8, 1, 1))
        self.beta = nn.Parameter(strength * torch.randn(1, 8, 1, 1))

    def forward(self, x):
        size = x.norm(dim=(2, 3), keepdim=True)
        return self.gamma * (x * size / (size.mean(dim=1, keepdim=True) + 1e-6)) + self.beta + x


class Wired(nn.Module):
    """offset + scale · f(x), where something is done to the channels between a layer and its reader."""

    def __init__(self, wiring, offset=0.0, scale=1.0, norm=nn.Identity):
        super().__init__()
        self.wiring, self.offset, self.scale = wiring, offset, scale
        self.body, self.norm, self.reader, self.head = conv(3, 8), norm(), conv(8, 6), nn.Linear(6, 5)

    def forward(self, x):
        x = self.wiring(F.relu(self.norm(self.body(x))))
        return self.offset + self.scale * self.head(F.relu(self.reader(x)).mean((2, 3)))


def same(x):
    return x


def flip(x):
    return x.flip(1)


def layer_norm(x):
    return F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],)).permute(0, 3, 1, 2)


def neighbours(x):
    return x / (1 + x.pow(2) + x.pow(2).roll(1, 1)).sqrt()


RIGHT = {
    "as it is": (same, {}),
    "beside 300": (same, {"offset": 300.0}),
    "small beside 100 000": (same, {"offset": 1e5, "scale": 1e-3}),
    "GroupNorm": (same, {"norm": lambda: nn.GroupNorm(2, 8)}),
    "GroupNorm beside 300": (same, {"norm": lambda: nn.GroupNorm(2, 8), "offset": 300.0}),
    "a function that is a LayerNorm": (layer_norm, {}),
    "a strong response norm": (same, {"norm": lambda: ResponseNorm(0.5)}),
    "a weak response norm": (same, {"norm": lambda: ResponseNorm(1e-4)}),
    "a response norm of 0": (same, {"norm": lambda: ResponseNorm(0.0)}),
    "a response norm beside 300": (same, {"norm": lambda: ResponseNorm(0.5), "offset": 300.0}),
    "a gate from the mean over channels": (lambda x: x * x.mean(1, keepdim=True).sigmoid(), {}),
    "a gate from the largest channel": (lambda x: x * x.amax(1, keepdim=True).sigmoid(), {}),
    "a norm over neighbours": (same, {"norm": lambda: nn.LocalResponseNorm(3)}),
    "a strong one": (same, {"norm": lambda: nn.LocalResponseNorm(5, alpha=5.0)}),
    "the same norm as a function": (lambda x: F.local_response_norm(x, 3), {}),
    "the same norm behind GroupNorm": (lambda x: F.local_response_norm(x, 3), {"norm": lambda: nn.GroupNorm(2, 8)}),
    "kept in float32": (lambda x: x.float().relu().to(x.dtype), {}),
}
WRONG = {
    "flip": (flip, {}),
    "flip of more than one image": (lambda x: x.flip(1) if len(x) > 1 else x, {}),
    "flip of more than one image, beside 300": (lambda x: x.flip(1) if len(x) > 1 else x, {"offset": 300.0}),
    "flip beside 300": (flip, {"offset": 300.0}),
    "flip, small beside 300": (flip, {"offset": 300.0, "scale": 1e-4}),
    "flip, small beside 100 000": (flip, {"offset": 1e5, "scale": 1e-3}),
    "roll beside 300": (lambda x: x.roll(1, 1), {"offset": 300.0}),
    "channels by number, beside 300": (lambda x: x[:, [3, 1, 2, 0, 7, 6, 5, 4]], {"offset": 300.0}),
    "flip behind GroupNorm": (flip, {"norm": lambda: nn.GroupNorm(2, 8)}),
    "flip behind a response norm": (flip, {"norm": lambda: ResponseNorm(0.5)}),
    "flip behind a LayerNorm": (lambda x: layer_norm(x).flip(1), {}),
    "flip in float32": (lambda x: x.float().flip(1).to(x.dtype), {}),
    "a scale that is the width": (lambda x: x / x.shape[1], {}),
    "flip behind a norm over neighbours": (flip, {"norm": lambda: nn.LocalResponseNorm(3)}),
    "flip behind a strong one": (lambda x: F.local_response_norm(x, 5, alpha=5.0).flip(1), {}),
    "a norm over neighbours that nobody knows": (neighbours, {}),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_followed_rightly_can_go_whatever_stands_beside_it(name):
    wiring, options = RIGHT[name]
    model = seeded(lambda: Wired(wiring, **options))
    kept = {group.root: group.protected for group in prunable_groups(model, example())}
    assert (kept["body"], kept["reader"]) == ("", "")
    apply(model, by_hand(), example=example(), any_weights=True)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_misread_is_kept_and_refused_whatever_stands_beside_it(name):
    wiring, options = WRONG[name]
    model = seeded(lambda: Wired(wiring, **options))
    kept = {group.root: group.protected for group in prunable_groups(model, example())}
    assert (found_on_trial(kept["body"]), kept["reader"]) == (True, "")
    with pytest.raises(SurgeryError, match=r"does not compute what the original computes|runs no more"):
        apply(model, by_hand(), example=example(), any_weights=True)


def by_hand():
    groups = (GroupPlan(root="body", width=8, remove=(0, 1, 4, 5)),)  # whole units of two groups of four
    return PruningPlan(model="", rule={}, criterion="hand", groups=groups, macs_before=0, macs_after=0)


class Second(nn.Module):
    """The second of two outputs, a hundred thousand times smaller, shows what the first does not."""

    def __init__(self):
        super().__init__()
        self.wired, self.plain = Wired(flip, scale=1e-5), Chain()

    def forward(self, x):
        return {"large": self.plain(x), "small": [self.wired(x)]}


def test_every_output_is_held_against_itself():
    kept = {group.root: group.protected for group in prunable_groups(seeded(Second), example())}
    assert found_on_trial(kept["wired.body"])
    assert kept["plain.first"] == ""


class Silent(nn.Module):
    """A residual branch whose norm starts at 0, as networks are often trained from."""

    def __init__(self, wiring):
        super().__init__()
        self.stem, self.inner, self.outer, self.norm = conv(3, 8), conv(8, 6), conv(6, 8), nn.BatchNorm2d(8)
        self.head, self.wiring = nn.Linear(8, 5), wiring

    def forward(self, x):
        x = F.relu(self.stem(x))
        return self.head((x + self.norm(self.outer(self.wiring(F.relu(self.inner(x)))))).mean((2, 3)))


@pytest.mark.parametrize(("wiring", "stays"), [(same, False), (flip, True)])
def test_a_branch_that_is_multiplied_by_0_hides_nothing(wiring, stays):
    model = seeded(lambda: Silent(wiring))
    nn.init.zeros_(model.norm.weight)
    nn.init.zeros_(model.norm.bias)
    kept = {group.root: group.protected for group in prunable_groups(model, example())}
    assert bool(kept["inner"]) is stays
    assert not model.norm.weight.any()


def test_only_what_is_0_throughout_is_given_a_life():
    model = seeded(Chain)
    assert lively(model) is model
    nn.init.zeros_(model.norm.weight)
    twin = lively(model)
    assert twin.norm.weight.all()
    assert torch.equal(twin.first.weight, model.first.weight)


def test_double_precision_is_used_where_the_network_has_it_throughout():
    assert all(Yardstick(seeded(kind), example()).double for kind in ALL)
    wiring, options = RIGHT["kept in float32"]
    assert not Yardstick(seeded(lambda: Wired(wiring, **options)), example()).double

    class Insists(Chain):
        def forward(self, x):
            if x.dtype != torch.float32:
                raise TypeError("float32 is expected")
            return super().forward(x)

    assert not Yardstick(seeded(Insists), example()).double


def test_double_precision_is_not_used_without_room_for_it(monkeypatch):
    monkeypatch.setattr("topocompress.surgery.checking.available_memory", lambda: 1000)
    model = seeded(lambda: Wired(flip))
    assert not Yardstick(model, example()).double
    kept = {group.root: group.protected for group in prunable_groups(model, example())}
    assert found_on_trial(kept["body"])


def test_the_network_stays_as_it_was():
    model = seeded(Chain).train()
    state, random = {key: value.clone() for key, value in model.state_dict().items()}, torch.get_rng_state()
    Yardstick(model, example())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert model.training
    assert torch.equal(torch.get_rng_state(), random)
