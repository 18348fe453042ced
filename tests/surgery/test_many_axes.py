"""Networks of layers beyond Conv2d and Linear: their groups are found, come off, and cost what was predicted."""

import pytest
import torch
from torch import nn

import topocompress
from tests.helpers.many_axes import AutoEncoder, Classifier, Flattened, Recurrent, UNet, Upsampled, seeded, shape
from tests.helpers.silence import silenced, some
from topocompress.criteria import L1
from topocompress.deploy.measurement import count_macs
from topocompress.planning.plan import make_plan
from topocompress.planning.rules import Limits
from topocompress.surgery.removal import apply
from topocompress.surgery.trial import prunable_groups
from topocompress.workflows.single_steps import layer_costs, score_groups

OUTPUT = "feeds the model's output"
STAYS = "the units of a recurrent layer stay; what it reads may go"
LINEAR = "linear layers are pruned on request only (--linear)"
# Kind → what stays and why, and units of what goes.
KINDS = {
    Classifier: ({"head": OUTPUT}, {"stem": 2, "inner": 6, "grouped": 4, "point": 10}),
    Flattened: ({"hidden": LINEAR, "head": OUTPUT}, {"body": 6}),
    AutoEncoder: ({"last": OUTPUT}, {"first": 8, "second": 12, "third": 8}),
    UNet: (
        {"out": OUTPUT},
        {"enter": 6, "down": 10, "bottom": 12, "up": 10, "merge": 8, "again": 6, "join": 6},
    ),
    Upsampled: ({"out": OUTPUT}, {"stem": 2, "grouped": 4}),
}
# MACs that torch-pruning 1.6.1's MagnitudePruner leaves at a ratio of 0.5; it fails on Upsampled.
OTHERS = {
    (Classifier, 1): 0.304,
    (Classifier, 2): 0.339,
    (Classifier, 3): 0.380,
    (AutoEncoder, 1): 0.313,
    (AutoEncoder, 2): 0.350,
    (AutoEncoder, 3): 0.393,
    (UNet, 1): 0.267,
    (UNet, 2): 0.273,
    (UNet, 3): 0.278,
    (Upsampled, 1): 0.448,
    (Upsampled, 2): 0.470,
    (Upsampled, 3): 0.487,
}
RECURRENT = [(nn.LSTM,), (nn.GRU, 2, True), (nn.RNN, 1, True, False), (nn.LSTM, 2, True, False)]


def case(kind, *arguments, dims):
    model = seeded(kind, *arguments, inputs=shape(dims))
    example = torch.randn(1, *shape(dims), generator=torch.Generator().manual_seed(1))
    return model, example


def check(model, example, groups):
    """Half of every group comes off a network in which it is 0, and nothing changes; costs are as predicted."""
    plan = some(groups)
    quiet = silenced(model, groups, plan)
    smaller = apply(quiet, plan, example=example, any_weights=True)
    with torch.no_grad():
        expected = quiet(example)
        assert torch.allclose(smaller(example), expected, atol=1e-5 * float(expected.abs().max()))
        assert not torch.allclose(model(example), expected, atol=1e-2 * float(expected.abs().max()))
    by_ratio = make_plan(
        score_groups(model, groups, L1(), None),
        groups,
        layer_costs(model, example),
        ratio=0.5,
        limits=Limits(round_to=1),
    )
    cut = apply(model, by_ratio, example=example, any_weights=True)
    assert count_macs(cut, example) == by_ratio.macs_after < by_ratio.macs_before == count_macs(model, example)
    return by_ratio.macs_after / by_ratio.macs_before


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_all_that_can_go_goes(kind, dims):
    model, example = case(kind, dims, dims=dims)
    groups = prunable_groups(model, example)
    stays, goes = KINDS[kind]
    assert {group.root: group.protected for group in groups if group.protected} == stays
    assert {group.root: len(group.units) for group in groups if not group.protected} == goes
    left = check(model, example, groups)
    assert left <= OTHERS.get((kind, dims), 1.0)


@pytest.mark.parametrize("arguments", RECURRENT)
def test_what_a_recurrent_layer_reads_goes_and_its_units_stay(arguments):
    model, example = case(Recurrent, *arguments, dims=1)
    groups = prunable_groups(model, example)
    assert {group.root: group.protected for group in groups} == {
        "stem": "",
        "body": "",
        "memory": STAYS,
        "head": OUTPUT,
    }
    assert next(group for group in groups if group.root == "body").readers == {"memory": (1,) * 6}
    check(model, example, groups)
    smaller = apply(model, some(groups), example=example, any_weights=True)
    assert (smaller.memory.input_size, smaller.memory.hidden_size) == (3, 5)
    assert type(smaller.memory).forward is smaller.memory.forward.__func__


@pytest.mark.parametrize(("kind", "dims"), [(UNet, 3), (Classifier, 1), (AutoEncoder, 2), (Upsampled, 2)])
def test_a_run_directory_gives_the_same_network(kind, dims, tmp_path):
    model, example = case(kind, dims, dims=dims)
    plan = topocompress.plan(
        model, topocompress.score(model, example=example, criterion="l1"), example=example, ratio=0.5
    )
    smaller = topocompress.apply(model, plan, example=example)
    preprocessing = topocompress.types.Preprocessing(input_shape=shape(dims), mean=(0, 0), std=(1, 1))
    topocompress.save(tmp_path / "run", smaller, plans=[plan], preprocessing=preprocessing)
    again = topocompress.load(tmp_path / "run", arch=lambda: kind(dims))
    with torch.no_grad():
        assert torch.equal(again(example), smaller(example))
