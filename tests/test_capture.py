import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from topocompress.capture import Slice, collect_clouds, map_shapes
from topocompress.errors import ModelError


def seeded(build) -> nn.Module:
    """A network with norms that do something, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build()
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return model.eval()


def images(count: int, *shape: int) -> Tensor:
    return torch.randn(count, *(shape or (3, 6, 6)), generator=torch.Generator().manual_seed(1))


def split(samples: Tensor, size: int = 3) -> list[tuple[Tensor, Tensor]]:
    return [(part, torch.zeros(len(part))) for part in samples.split(size)]


def captured(model: nn.Module, layers, samples: Tensor, size: int = 3) -> dict[str, Tensor]:
    """Layer → (samples, channels, features), through the library."""
    slices = [
        Slice(layer=layer, start=0, stop=channels, features=features)
        for layer, (channels, features) in map_shapes(model, layers, samples[:1]).items()
    ]
    clouds = collect_clouds(model, slices, split(samples, size), len(samples), on_batch=lambda _: None)
    return {part.layer: cloud.transpose(0, 1) for part, cloud in zip(slices, clouds, strict=True)}


class Net(nn.Module):
    """Parts by name; any function of them and the input as the forward pass, then a pooling."""

    def __init__(self, run, **parts: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor):
        return self.run(self, x).mean(dim=-1)


def conv(inputs: int = 3, outputs: int = 4) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


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


# --- no trace is left ---


def trace_of(model: nn.Module) -> tuple:
    hooks = [
        {kind: dict(value) for kind, value in vars(module).items() if kind.endswith("_hooks")}
        for module in model.modules()
    ]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    return hooks, [module.training for module in model.modules()], torch.get_rng_state(), state


def assert_untouched(model: nn.Module, before: tuple) -> None:
    hooks, modes, random_state, state = trace_of(model)
    assert hooks == before[0]
    assert modes == before[1]
    assert torch.equal(random_state, before[2])
    assert all(torch.equal(state[name], value) for name, value in before[3].items())
    assert all(parameter.grad is None for parameter in model.parameters())


def noisy(net: nn.Module, x: Tensor) -> Tensor:
    return net.norm(net.conv(x + torch.rand_like(x)))


def test_nothing_is_left_behind():
    model = seeded(lambda: Net(noisy, conv=conv(), norm=nn.BatchNorm2d(4), drop=nn.Dropout()))
    model.train()
    model.norm.eval()
    seen = []
    model.conv.register_forward_hook(lambda *_: seen.append(1))
    before = trace_of(model)

    maps = captured(model, ["conv"], images(7))

    assert_untouched(model, before)
    assert len(seen) == 4  # the caller's own hook: one shape query and three batches
    assert not maps["conv"].requires_grad


def test_nothing_is_left_behind_when_the_forward_pass_raises():
    def failing(net, x):
        noisy(net, x)
        raise RuntimeError("out of luck\nsecond line")

    model = seeded(lambda: Net(failing, conv=conv(), norm=nn.BatchNorm2d(4)))
    model.train()
    before = trace_of(model)

    with pytest.raises(ModelError, match=r"\(1, 3, 6, 6\).*out of luck\n"):
        map_shapes(model, ["conv"], images(1))

    assert_untouched(model, before)


def test_nothing_is_left_behind_when_the_caller_interrupts():
    model = seeded(lambda: Net(noisy, conv=conv(), norm=nn.BatchNorm2d(4))).train()
    before = trace_of(model)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        part = Slice(layer="conv", start=0, stop=4, features=36)
        collect_clouds(model, [part], split(images(7)), 7, on_batch=interrupt)

    assert_untouched(model, before)


def test_taps_end_with_the_capture():
    model, x = seeded(lambda: BasicBlock(3, 3)), images(3)
    with torch.no_grad():
        expected = copy.deepcopy(model)(x)

    captured(model, ["conv1"], x)

    with torch.no_grad():
        assert torch.equal(model(x), expected)
