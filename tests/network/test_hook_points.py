import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.convnext import LayerNorm2d
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops.misc import FrozenBatchNorm2d

from tests.helpers.capturing import Net, captured, conv, images, seeded
from topocompress.network.capture import map_shapes

# --- where the map is taken ---


def in_place_sum(net, x):
    out = F.relu(net.conv(x))
    out += x.mean(dim=1, keepdim=True)
    return out.flatten(1)


def in_place_index(net, x):
    out = net.conv(x)
    out[:, :, 0] = 7.0
    return out


def out_argument(net, x):
    out = net.conv(x)
    torch.add(out, 1.0, out=out)
    return out


def gated(net, x):
    out = net.norm(net.conv(x))
    return out * torch.sigmoid(out.mean(dim=(2, 3), keepdim=True))


def sized(tensor: Tensor) -> Tensor:
    assert tensor.shape[0] == tensor.size(0)
    assert tensor.dim() == 4
    return tensor.contiguous()


class NormAct(nn.BatchNorm2d):
    """A norm with an activation of its own, in operations that are followed nowhere else."""

    def forward(self, x):
        return 3 * torch.sigmoid(self.plain(x))

    def plain(self, x):
        return super().forward(x)


def frozen():
    norm = FrozenBatchNorm2d(4)
    norm.running_mean += 0.3
    norm.weight *= -2
    return norm


TAPS = {
    # name: (forward, the map expected, other parts)
    "bare": (lambda n, x: n.conv(x), lambda n, x: n.conv(x), {}),
    "ReLU module": (lambda n, x: n.act(n.conv(x)), lambda n, x: n.conv(x).relu(), {"act": nn.ReLU()}),
    "ReLU in place": (lambda n, x: n.act(n.conv(x)), lambda n, x: n.conv(x).relu(), {"act": nn.ReLU(inplace=True)}),
    "F.relu": (lambda n, x: F.relu(n.conv(x)), lambda n, x: n.conv(x).relu(), {}),
    "F.relu in place": (lambda n, x: F.relu(n.conv(x), inplace=True), lambda n, x: n.conv(x).relu(), {}),
    "method": (lambda n, x: n.conv(x).relu_(), lambda n, x: n.conv(x).relu(), {}),
    "SiLU module": (lambda n, x: n.act(n.conv(x)), lambda n, x: F.silu(n.conv(x)), {"act": nn.SiLU(inplace=True)}),
    "F.gelu": (lambda n, x: F.gelu(n.conv(x)), lambda n, x: F.gelu(n.conv(x)), {}),
    "ReLU6": (lambda n, x: n.act(n.conv(x)), lambda n, x: n.conv(x).clamp(0, 6), {"act": nn.ReLU6()}),
    "Hardswish": (lambda n, x: n.act(n.conv(x)), lambda n, x: F.hardswish(n.conv(x)), {"act": nn.Hardswish()}),
    "PReLU": (lambda n, x: n.act(n.conv(x)), lambda n, x: n.act(n.conv(x)), {"act": nn.PReLU()}),
    "tanh": (lambda n, x: torch.tanh(n.conv(x)), lambda n, x: n.conv(x).tanh(), {}),
    "norm, then ReLU": (
        lambda n, x: n.act(n.norm(n.conv(x))),
        lambda n, x: n.norm(n.conv(x)).relu(),
        {"norm": nn.BatchNorm2d(4), "act": nn.ReLU(inplace=True)},
    ),
    "GroupNorm, then F.silu": (
        lambda n, x: F.silu(n.norm(n.conv(x))),
        lambda n, x: F.silu(n.norm(n.conv(x))),
        {"norm": nn.GroupNorm(2, 4)},
    ),
    "ReLU, then norm": (
        lambda n, x: n.norm(n.conv(x).relu()),
        lambda n, x: n.norm(n.conv(x).relu()),
        {"norm": nn.BatchNorm2d(4)},
    ),
    "LayerNorm over channels, which permutes inside": (
        lambda n, x: n.norm(n.conv(x)).relu(),
        lambda n, x: n.norm(n.conv(x)).relu(),
        {"norm": LayerNorm2d(4)},
    ),
    "frozen BatchNorm, which is plain arithmetic inside": (
        lambda n, x: F.relu(n.norm(n.conv(x))),
        lambda n, x: F.relu(n.norm(n.conv(x))),
        {"norm": frozen()},
    ),
    "norm and activation in one module": (
        lambda n, x: n.norm(n.conv(x)) + 1,
        lambda n, x: 3 * torch.sigmoid(n.norm.plain(n.conv(x))),
        {"norm": NormAct(4)},
    ),
    "a norm of something else": (
        lambda n, x: n.norm(x).mean(dim=1, keepdim=True) + n.conv(x).relu(),
        lambda n, x: n.conv(x).relu(),
        {"norm": nn.BatchNorm2d(3)},
    ),
    "shape queries and dropout": (
        lambda n, x: n.drop(F.relu(sized(n.conv(x)))),
        lambda n, x: n.conv(x).relu(),
        {"drop": nn.Dropout(0.5)},
    ),
    "before a sum": (lambda n, x: F.relu(n.conv(x) + 1), lambda n, x: n.conv(x), {}),
    "before a sum in place": (in_place_sum, lambda n, x: n.conv(x).relu(), {}),
    "before assignment": (in_place_index, lambda n, x: n.conv(x), {}),
    "before out=": (out_argument, lambda n, x: n.conv(x), {}),
    "before torch.cat": (
        lambda n, x: torch.cat([n.conv(x).relu(), x], dim=1).relu(),
        lambda n, x: n.conv(x).relu(),
        {},
    ),
    "before pooling": (lambda n, x: n.pool(n.conv(x).relu()), lambda n, x: n.conv(x).relu(), {"pool": nn.MaxPool2d(2)}),
    "before a gate": (gated, lambda n, x: n.norm(n.conv(x)), {"norm": nn.BatchNorm2d(4)}),
}


@pytest.mark.parametrize("name", TAPS)
def test_maps_are_taken_where_the_next_layer_reads_them(name):
    forward, expected, parts = TAPS[name]
    model = seeded(lambda: Net(forward, conv=conv(), **parts))
    samples = images(7)

    maps = captured(model, ["conv"], samples)["conv"]

    with torch.no_grad():
        torch.testing.assert_close(maps, expected(model, samples).flatten(2), rtol=1e-5, atol=1e-6)


def test_a_shared_activation_gives_each_convolution_its_own_map():
    model, x = seeded(lambda: BasicBlock(4, 4)), images(5, 4, 6, 6)

    maps = captured(model, ["conv1", "conv2"], x)

    with torch.no_grad():
        first = model.bn1(model.conv1(x)).relu()
        second = model.bn2(model.conv2(first))  # the shortcut is added to it: no activation before that
    torch.testing.assert_close(maps["conv1"], first.flatten(2), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(maps["conv2"], second.flatten(2), rtol=1e-5, atol=1e-6)


def test_bottleneck_with_a_projection():
    project = nn.Sequential(nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8))
    model, x = seeded(lambda: Bottleneck(4, 2, downsample=project)), images(5, 4, 6, 6)

    maps = captured(model, ["conv1", "conv2", "conv3", "downsample.0"], x)

    with torch.no_grad():
        first = model.bn1(model.conv1(x)).relu()
        second = model.bn2(model.conv2(first)).relu()
        third = model.bn3(model.conv3(second))
        shortcut = model.downsample(x)
    for name, expected in {"conv1": first, "conv2": second, "conv3": third, "downsample.0": shortcut}.items():
        torch.testing.assert_close(maps[name], expected.flatten(2), rtol=1e-5, atol=1e-6)
    assert list(maps) == ["conv1", "conv2", "conv3", "downsample.0"]


def test_linear_layers_have_their_channels_last():
    model = seeded(
        lambda: Net(
            lambda n, x: n.last(F.gelu(n.inner(x)).mean(dim=(1, 2))), inner=nn.Linear(3, 5), last=nn.Linear(5, 2)
        )
    )
    x = images(4, 6, 7, 3)

    maps = captured(model, ["inner", "last"], x)

    with torch.no_grad():
        inner = F.gelu(model.inner(x))
        last = model.last(inner.mean(dim=(1, 2)))
    torch.testing.assert_close(maps["inner"], inner.permute(0, 3, 1, 2).flatten(2), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(maps["last"], last[:, :, None], rtol=1e-5, atol=1e-6)


def test_a_layer_that_runs_twice_is_judged_by_its_first_run():
    model, x = seeded(lambda: Net(lambda n, x: n.conv(n.conv(x).relu()) + 1, conv=conv(3, 3))), images(5)

    maps = captured(model, ["conv"], x)["conv"]

    with torch.no_grad():
        torch.testing.assert_close(maps, model.conv(x).relu().flatten(2), rtol=1e-5, atol=1e-6)


def test_layers_come_in_the_order_in_which_they_run_and_idle_ones_are_missing():
    model = seeded(lambda: Net(lambda n, x: n.late(n.early(x)).mean(), late=conv(4, 2), early=conv(), idle=conv()))

    shapes = map_shapes(model, ["late", "early", "idle"], images(1, 3, 5, 8))

    assert list(shapes.items()) == [("early", (4, 40)), ("late", (2, 40))]
