"""Masks: what is switched off is gone for all readers, and the network computes what it did otherwise."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers.capturing import Net, conv, images, seeded
from tests.helpers.tiny_nets import Chain, Concat, Depthwise, Residual, SqueezeExcite, example
from tests.helpers.tiny_nets import seeded as tiny
from topocompress.errors import ModelError
from topocompress.network.masks import FilterMasks, masked


def run_with(model, layers, x, off=()):
    """Output, and the effect of every filter on its sum, with some (layer, filter) switched off."""
    switches = FilterMasks(model, layers)
    for layer, channel in off:
        on = torch.ones(model.get_submodule(layer).weight.shape[0])
        on[channel] = 0
        switches.set(layer, on)
    with masked(model, layers, switches) as run, torch.enable_grad():
        switches.expect(len(x))
        output = run(x)
        slopes = torch.autograd.grad(output.sum(), list(switches.maps.values()), allow_unused=True)
    return output.detach(), dict(zip(switches.maps, slopes, strict=True))


NETS = {
    "module relu": lambda: Net(lambda n, x: n.b(n.act(n.a(x))).mean(-1), a=conv(), act=nn.ReLU(), b=conv(4, 4)),
    "in-place relu": lambda: Net(
        lambda n, x: n.b(n.act(n.bn(n.a(x)))).mean(-1), a=conv(), bn=nn.BatchNorm2d(4), act=nn.ReLU(True), b=conv(4, 4)
    ),
    "function": lambda: Net(lambda n, x: n.b(F.relu(n.a(x))).mean(-1), a=conv(), b=conv(4, 4)),
    "two readers": lambda: Net(lambda n, x: both(n, F.relu(n.a(x))), a=conv(), b=conv(4, 4), c=conv(4, 4)),
    "in-place sum": lambda: Net(added, a=conv(), b=conv(3, 4), c=conv(4, 4)),
    "concat": lambda: Net(
        lambda n, x: n.c(torch.cat([F.relu(n.a(x)), n.b(x)], 1)).mean(-1), a=conv(), b=conv(), c=conv(8)
    ),
    "shape is asked first": lambda: Net(lambda n, x: shaped(n, n.a(x)), a=conv(), b=conv(4, 4)),
}


def both(net, maps):
    return (net.b(maps) * net.c(maps)).mean(-1)


def added(net, x):
    out = net.a(x)
    out += net.b(x)
    return net.c(F.relu(out)).mean(-1)


def concatenated(net, x):
    return net.c(torch.cat([F.relu(net.a(x)), net.b(x)], 1)).mean(-1)


def shaped(net, maps):
    assert maps.size(1) == 4
    assert maps.shape[0] > 0
    return net.b(maps).mean(-1)


def silenced(model, layer, channel):
    """The same network, in which a filter (and the norm behind it) gives zero."""
    for name in (layer, "bn") if hasattr(model, "bn") else (layer,):
        module = model.get_submodule(name)
        with torch.no_grad():
            module.weight[channel] = 0
            module.bias[channel] = 0
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean[channel] = 0
    return model


@pytest.mark.parametrize("name", NETS)
def test_a_filter_that_is_off_gives_zero_to_every_reader(name):
    x = images(4)
    plain = seeded(NETS[name])(x)

    same, _ = run_with(seeded(NETS[name]), ["a"], x)
    without, _ = run_with(seeded(NETS[name]), ["a"], x, off=[("a", 2)])

    torch.testing.assert_close(same, plain, rtol=0, atol=0)
    torch.testing.assert_close(without, silenced(seeded(NETS[name]), "a", 2)(x).detach())
    assert not torch.allclose(without, plain)


@pytest.mark.parametrize("name", [name for name in NETS if name not in ("two readers", "in-place sum")])
def test_the_effect_is_the_change_where_the_network_is_linear_behind_the_map(name):
    """There the first order is exact."""
    x = images(4)
    plain, effects = run_with(seeded(NETS[name]), ["a"], x)

    for channel in range(4):
        without, _ = run_with(seeded(NETS[name]), ["a"], x, off=[("a", channel)])
        torch.testing.assert_close(effects["a"][:, channel], (plain - without).sum(dim=tuple(range(1, plain.ndim))))


@pytest.mark.parametrize(
    ("kind", "layers"),
    [
        (Chain, ["first", "second", "hidden"]),
        (Residual, ["stem", "inner", "outer"]),
        (Concat, ["left", "right", "reader"]),
        (Depthwise, ["expand", "deep", "project"]),
        (SqueezeExcite, ["body", "squeeze", "excite"]),
    ],
)
def test_with_all_gates_open_nothing_changes(kind, layers):
    model = tiny(kind)
    x = example()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    found, effects = run_with(model, layers, x)

    assert torch.equal(found, model(x))
    assert sorted(effects) == sorted(layers)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_linear_layer_has_its_channels_last():
    model = tiny(Chain)
    x = torch.cat([example()] * 3)

    off, effects = run_with(model, ["hidden"], x, off=[("hidden", 1)])

    with torch.no_grad():
        model.hidden.weight[1], model.hidden.bias[1] = 0, 0
    assert effects["hidden"].shape == (3, 8)
    torch.testing.assert_close(off, model(x).detach())


def test_a_layer_that_sees_pieces_of_samples_is_refused():
    model = seeded(lambda: Net(lambda n, x: n.a(x.repeat(2, 1, 1, 1)).mean((1, 2)), a=conv()))

    with pytest.raises(ModelError, match="a: 8 maps for 4 samples"):
        run_with(model, ["a"], images(4))


def test_a_layer_that_runs_twice_is_off_both_times():
    model = seeded(lambda: Net(lambda n, x: n.b(n.a(n.a(x))).mean(-1), a=conv(3, 3), b=conv(3, 2)))
    x = images(2)

    off, _ = run_with(model, ["a"], x, off=[("a", 0)])

    torch.testing.assert_close(off, silenced(model, "a", 0)(x).detach())
