"""Networks whose weights are shared, computed from others, or one number: pruned where that can be, and never torn."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

from tests.helpers.tiny_nets import conv, example, seeded
from topocompress.models.loading import fingerprint
from topocompress.reconstruction.refit import reconstruct
from topocompress.surgery.checking import lively
from topocompress.surgery.kept import kept_outputs
from topocompress.surgery.removal import apply
from topocompress.surgery.trial import prunable_groups
from topocompress.types import GroupPlan, PruningPlan


class Between(nn.Module):
    """body, then a layer of some kind, then the head."""

    def __init__(self, layer, twice=False):
        super().__init__()
        self.body, self.layer, self.reader, self.head = conv(3, 8), layer(), conv(8, 6), nn.Linear(6, 5)
        self.twin = conv(8, 8) if twice else None
        if self.twin is not None:
            self.twin.weight = self.layer.weight

    def forward(self, x):
        x = F.relu(self.layer(F.relu(self.body(x))))
        x = x if self.twin is None else F.relu(self.twin(x))
        return self.head(F.relu(self.reader(x)).mean((2, 3)))


class Beside(nn.Module):
    """Two layers with the same weights, side by side."""

    def __init__(self):
        super().__init__()
        self.body, self.one, self.two, self.head = conv(3, 8), conv(8, 6), conv(8, 6), nn.Linear(6, 5)
        self.two.weight, self.two.bias = self.one.weight, self.one.bias

    def forward(self, x):
        x = F.relu(self.body(x))
        return self.head(F.relu(self.one(x) + self.two(x.flip(3))).mean((2, 3)))


def spectral():
    return nn.utils.spectral_norm(conv(8, 8))


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
def weight_normed():
    return nn.utils.weight_norm(conv(8, 8))


def masked():
    layer = conv(8, 8)
    prune.l1_unstructured(layer, "weight", 0.3)
    return layer


COMPUTED = {"spectral norm": spectral, "weight norm": weight_normed, "a mask": masked}
TRANSPOSED = {
    "transposed": (lambda: nn.ConvTranspose2d(8, 8, 2, 2), ""),
    "depthwise transposed": (lambda: nn.ConvTranspose2d(8, 8, 2, 2, groups=8), ""),
    "grouped transposed": (lambda: nn.ConvTranspose2d(8, 8, 2, 2, groups=2), ""),
}


def by_hand(root, width, remove, model=""):
    groups = (GroupPlan(root=root, width=width, remove=remove),)
    return PruningPlan(model=model, rule={}, criterion="hand", groups=groups, macs_before=0, macs_after=0)


def protected(model):
    return {group.root: group.protected for group in prunable_groups(model, example())}


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning", "ignore:The .grad attribute")
@pytest.mark.parametrize("name", COMPUTED)
def test_a_computed_weight_is_put_in_once_and_for_all(name):
    model = seeded(lambda: Between(COMPUTED[name]))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert (protected(model)["body"], protected(model)["layer"], protected(model)["reader"]) == ("", "", "")
    small = apply(model, by_hand("body", 8, (0, 1)), example=example(), any_weights=True)
    with torch.no_grad():
        model(example())  # puts the weight in its place
        assert torch.allclose(small.layer.weight, model.layer.weight[:, 2:], atol=1e-7)
    assert isinstance(small.layer.weight, nn.Parameter)
    assert set(small.layer.state_dict()) == {"weight", "bias"}
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_layers_that_share_weights_one_behind_the_other_lose_the_same_channels():
    model = seeded(lambda: Between(lambda: conv(8, 8), twice=True))
    groups = {group.root: group for group in prunable_groups(model, example())}
    assert groups["body"].protected == ""
    assert groups["body"].filters.keys() == {"body", "layer", "twin"}
    assert groups["body"].units == tuple((channel,) for channel in range(8))
    small = apply(model, by_hand("body", 8, (0, 1)), example=example(), any_weights=True)
    assert small.layer.weight is small.twin.weight
    assert small.layer.weight.shape == (6, 6, 3, 3)


@pytest.mark.parametrize(("root", "width"), [("body", 8), ("one", 6)])
def test_layers_that_lose_the_same_channels_go_on_sharing_weights(root, width):
    model = seeded(Beside)
    assert protected(model)[root] == ""
    small = apply(model, by_hand(root, width, (0, 3)), example=example(), any_weights=True)
    assert small.one.weight is small.two.weight
    assert small.one.bias is small.two.bias
    assert small.one.weight.shape == ((6, 6, 3, 3) if root == "body" else (4, 8, 3, 3))


@pytest.mark.parametrize("name", TRANSPOSED)
def test_what_a_transposed_convolution_reads_can_go(name):
    layer, reason = TRANSPOSED[name]
    model = seeded(lambda: Between(layer))
    assert protected(model)["body"] == reason
    plan = by_hand("reader" if reason else "body", 6 if reason else 8, (1, 4), fingerprint(model))
    small = apply(model, plan, example=example())
    images = [torch.cat([example()] * 10)]
    assert reconstruct(small, model, plan, images).layers  # it has a target for each output that is left


def test_outputs_of_a_grouped_transposed_convolution_are_numbered_through():
    model = seeded(lambda: Between(TRANSPOSED["grouped transposed"][0]))
    kept = kept_outputs(model, by_hand("reader", 6, (1, 4)), example=example())
    assert kept["layer"].tolist() == list(range(8))
    assert kept["reader"].tolist() == [0, 2, 3, 5]
    model = seeded(lambda: Between(TRANSPOSED["depthwise transposed"][0]))
    kept = kept_outputs(model, by_hand("body", 8, (1, 4)), example=example())
    assert kept["layer"].tolist() == [0, 2, 3, 5, 6, 7]


@pytest.mark.parametrize("shape", [(), (1,), (1, 8, 1, 1)])
def test_a_scale_of_0_has_any_number_of_axes(shape):
    model = nn.Module()
    model.scale = nn.Parameter(torch.zeros(shape))
    assert lively(model).scale.all()
    assert not model.scale.any()
