"""How a capture ends: early, by an error, or with maps that nobody reads; and that it leaves no trace."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from tests.helpers.capturing import Net, captured, conv, images, seeded, split
from topocompress.errors import ModelError
from topocompress.network.capture import Slice, collect_clouds, map_shapes, plan_passes
from topocompress.network.hook_points import hooked

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


# --- maps that nobody reads ---


class DeadEnd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unread = nn.Conv2d(3, 2, 1)
        self.last = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        self.unread(images)
        return {"out": torch.relu(self.last(images))}


def test_output_and_dead_end_are_captured_in_running_order():
    torch.manual_seed(0)
    model = DeadEnd().eval()
    shapes = map_shapes(model, ["last", "unread"], images(4))
    assert shapes == {"unread": (2, 36), "last": (4, 16)}
    assert list(shapes) == ["unread", "last"]
    (slices,) = plan_passes(shapes, 4, 1 << 20)
    clouds = collect_clouds(model, slices, split(images(4), 4), 4)
    with torch.no_grad():
        expected = torch.relu(model.last(images(4))).flatten(2).transpose(0, 1)
    torch.testing.assert_close(torch.from_numpy(clouds[1]), expected)


def test_bare_output():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    assert map_shapes(model, ["0"], images(4)) == {"0": (4, 16)}


# --- the end of a pass ---


class Counted(nn.Module):
    """Three layers in a row and a branch; counts how often each part runs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = conv(3, 4), conv(4, 4), conv(4, 2)
        self.runs = dict.fromkeys(("first", "second", "last"), 0)
        for name in self.runs:
            self.get_submodule(name).register_forward_hook(lambda *_, name=name: self._count(name))

    def _count(self, name: str) -> None:
        self.runs[name] += 1

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = torch.relu(self.second(x)) + x
        return self.last(x).mean(dim=(2, 3))


def delivered(model: nn.Module, layers, **options) -> list[tuple[str, int]]:
    found = []
    with hooked(model, layers, lambda name, maps: found.append((name, len(maps))), **options) as run:
        for part, _ in split(images(7)):
            run(part)
    return found


def test_a_pass_ends_when_all_maps_are_delivered():
    model = Counted().eval()

    assert delivered(model, ["first"]) == [("first", 3), ("first", 3), ("first", 1)]
    assert model.runs == {"first": 3, "second": 0, "last": 0}


def test_a_pass_goes_as_far_as_the_last_map_needs():
    model = Counted().eval()

    assert delivered(model, ["second", "first"])[:2] == [("first", 3), ("second", 3)]
    assert model.runs == {"first": 3, "second": 3, "last": 0}
    delivered(model, ["last", "first"])
    assert model.runs == {"first": 6, "second": 6, "last": 3}


def test_a_whole_pass_runs_every_layer():
    model, order = Counted().eval(), []

    assert delivered(model, ["first"], whole=True, order=order) == [("first", 3), ("first", 3), ("first", 1)]
    assert order == ["first"] * 3
    assert model.runs == {"first": 3, "second": 3, "last": 3}


def test_a_short_pass_gives_the_maps_of_a_whole_one():
    model = seeded(Counted)
    shapes = map_shapes(model, ["first", "second"], images(1))
    whole = captured(model, ["first", "second", "last"], images(7))

    short = captured(model, ["first", "second"], images(7))

    assert list(shapes) == list(short)
    assert all(torch.equal(short[name], whole[name]) for name in short)


def test_no_handler_of_the_model_holds_up_the_end():
    def careful(net, x):
        x = net.conv(x)
        try:
            x = x + 1  # ends the pass
        except Exception:  # noqa: BLE001 - what models do
            x = x - 1
        net.after.append(1)
        return x

    model = seeded(lambda: Net(careful, conv=conv()))
    model.after = []

    assert delivered(model, ["conv"]) == [("conv", 3), ("conv", 3), ("conv", 1)]
    assert model.after == []


def test_an_early_end_leaves_nothing_behind():
    model = Counted().train()
    before = trace_of(model)

    captured(model, ["first"], images(7))

    assert_untouched(model, before)


# --- how images lie in memory ---


def normed(net: nn.Module, x: Tensor) -> Tensor:
    return net.norm(net.conv(x)).relu()


def test_the_layout_changes_no_more_than_rounding():
    model, x = seeded(lambda: Net(normed, conv=conv(), norm=nn.BatchNorm2d(4))), images(9)
    part = Slice(layer="conv", start=0, stop=4, features=map_shapes(model, ["conv"], x[:1])["conv"][1])

    plain, last = (
        collect_clouds(model, [part], split(x), 9, layout=layout)[0]
        for layout in (torch.contiguous_format, torch.channels_last)
    )

    torch.testing.assert_close(torch.from_numpy(plain), torch.from_numpy(last), rtol=1e-5, atol=1e-5)
