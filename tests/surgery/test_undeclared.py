"""Norms, weights and wirings that no list knows: channels go, and the rest computes what it did."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import topocompress
from tests.helpers import rewired, tiny_nets, undeclared
from tests.helpers.silence import some
from topocompress.deploy.measurement import count_macs
from topocompress.surgery.removal import apply
from topocompress.surgery.trial import found_on_trial, prunable_groups
from topocompress.types import Preprocessing

LAYERS = ("first", "second", "third")
OUTPUT = "feeds the model's output"
BOTH = "is itself an output of the model, besides being read by enter"


def groups_of(model):
    return {group.root: group for group in prunable_groups(model, undeclared.example())}


def without(norm, keep):
    """The norm for the channels that stay, written out by hand."""
    cut = copy.deepcopy(norm)
    for module in cut.modules():
        for values in (module._parameters, module._buffers):
            for name, tensor in values.items():
                if tensor is not None and tensor.numel() == 8:
                    axis = next(axis for axis, size in enumerate(tensor.shape) if size > 1)
                    kept = tensor.detach().index_select(axis, keep)
                    values[name] = nn.Parameter(kept) if isinstance(tensor, nn.Parameter) else kept
        for name in ("normalized_shape", "num_features"):
            if hasattr(module, name):
                setattr(module, name, (len(keep),) if name == "normalized_shape" else len(keep))
    return cut


@pytest.mark.parametrize("name", undeclared.NORMS)
def test_a_norm_of_any_kind_loses_channels(name):
    model = undeclared.seeded(undeclared.Normed, name)
    groups = groups_of(model)
    assert {root: group.protected for root, group in groups.items()} == {"body": "", "reader": "", "head": OUTPUT}
    assert len(groups["body"].units) == 8
    plan = some(groups.values())
    smaller = apply(model, plan, example=undeclared.example(), any_weights=True)
    keep = {entry.root: torch.tensor(sorted(set(range(entry.width)) - set(entry.remove))) for entry in plan.groups}
    body, reader = keep["body"], keep["reader"]
    x = F.conv2d(undeclared.example(), model.body.weight[body], model.body.bias[body], padding=1)
    x = F.relu(without(model.norm, body)(x))
    x = F.relu(F.conv2d(x, model.reader.weight[reader][:, body], model.reader.bias[reader], padding=1))
    expected = F.linear(x.mean((2, 3)), model.head.weight[:, reader], model.head.bias)
    assert torch.allclose(smaller(undeclared.example()), expected, atol=1e-5)
    assert dict(smaller.named_buffers()).keys() == dict(model.named_buffers()).keys()
    assert smaller.state_dict().keys() == model.state_dict().keys()
    assert not any(buffer.requires_grad for buffer in smaller.buffers())


@pytest.mark.parametrize(
    ("kind", "units", "most"),
    [
        (undeclared.Sloped, {"left": 4, "right": 6, "reader": 4}, 0.36),
        (undeclared.Multiplied, {"stem": 16, "point": 8}, 0.48),
        (undeclared.Spread, {"stem": 8}, 0.51),
        (lambda: undeclared.Chain(undeclared.standardised), {"first": 8, "second": 8, "third": 8}, 0.29),
        (undeclared.masked, {"first": 8, "second": 8, "third": 8}, 0.29),
        (lambda: undeclared.normed("weight_norm"), {"first": 8, "second": 8, "third": 8}, 0.29),
        (lambda: undeclared.normed("spectral_norm"), {"first": 8, "second": 8, "third": 8}, 0.29),
        (lambda: undeclared.normed("new weight_norm"), {"first": 8, "second": 8, "third": 8}, 0.29),
        (lambda: undeclared.normed("new spectral_norm"), {"first": 8, "second": 8, "third": 8}, 0.29),
        (undeclared.tied, {"first": 8}, 0.29),
        (undeclared.Mirrored, {"enter": 8}, 0.51),
        (
            lambda: undeclared.Chain(undeclared.LoRA),
            {f"{name}.{part}": width for name in LAYERS for part, width in (("base", 8), ("down", 2))},
            0.29,
        ),
        *[(kind, units, most) for kind, units, most in rewired.EXPECTED],
    ],
)
def test_half_of_every_group_goes_and_the_rest_computes_what_it_did(kind, units, most, tmp_path):
    model = undeclared.seeded(kind)
    groups = prunable_groups(model, undeclared.example())
    assert {group.root: len(group.units) for group in groups if not group.protected} == units
    assert {group.protected for group in groups if group.protected} <= {OUTPUT, BOTH}
    plan = some(groups)
    smaller = apply(model, plan, example=undeclared.example(), any_weights=True)  # which compares the outputs
    assert count_macs(smaller, undeclared.example()) <= most * count_macs(model, undeclared.example())
    preprocessing = Preprocessing(input_shape=undeclared.SHAPE)
    topocompress.save(tmp_path / "run", smaller, plans=[plan], preprocessing=preprocessing)
    again = topocompress.load(tmp_path / "run", arch=lambda: undeclared.seeded(kind))
    with torch.no_grad():
        assert torch.equal(again(undeclared.example()), smaller(undeclared.example()))


def test_what_is_read_and_given_back_too_says_so():
    groups = groups_of(undeclared.seeded(undeclared.Mirrored))
    assert groups["leave"].protected == BOTH  # tied: a removal would reach both
    groups = groups_of(undeclared.seeded(undeclared.Features))
    assert groups["body"].protected == "is itself an output of the model, besides being read by head"
    assert groups["head"].protected == OUTPUT


def test_tied_layers_stay_tied():
    model = undeclared.seeded(undeclared.tied)
    plan = some(prunable_groups(model, undeclared.example()))
    smaller = apply(model, plan, example=undeclared.example(), any_weights=True)
    assert smaller.third.weight is smaller.second.weight
    assert smaller.second.weight.shape == (4, 4, 3, 3)


@pytest.mark.parametrize("kind", [tiny_nets.PaddedShortcut, tiny_nets.Halves, tiny_nets.Rolled])
def test_wiring_that_is_misread_is_not_taken_for_a_sum(kind):
    model = tiny_nets.seeded(kind)
    found = {group.root: group.protected for group in prunable_groups(model, tiny_nets.example())}
    assert any(found_on_trial(reason) for reason in found.values())
