"""Channels that are laid out in other shapes, and attention of plain layers: removed, or kept for the very reason."""

import pytest
import torch

import topocompress
from tests.helpers import reshaped
from tests.helpers.tiny_nets import seeded
from topocompress.deploy.measurement import count_macs
from topocompress.surgery.removal import STOPS
from topocompress.surgery.trial import _written, prunable_groups
from topocompress.types.reasons import Kind, Reason


def example():
    return torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))


FREE = [
    ((reshaped.Laid, 128, reshaped.viewed), {"body": 8}),
    ((reshaped.Laid, 128, reshaped.rest), {"body": 8}),
    ((reshaped.Laid, 128, reshaped.channels_last), {"body": 8}),
    ((reshaped.Laid, 8, reshaped.squeezed), {"body": 8}),
    ((reshaped.Laid, 8, reshaped.tokens), {"body": 8}),
    ((reshaped.Twice,), {"first": 6, "second": 4}),
    ((reshaped.Twice, True), {"first": 6, "second": 4}),
    ((reshaped.FlatConcat,), {"left": 4, "right": 6}),
    ((reshaped.Parted, lambda net: net.one), {"stem": 4, "inner": 4, "reader": 6}),
    ((reshaped.Parted, lambda net: net.whole // 2), {"stem": 4, "inner": 4, "reader": 6}),
    ((reshaped.Parted, lambda net: net.sizes), {"stem": 8, "inner": 4, "reader": 6}),
    ((reshaped.ScaledBy,), {"body": 8}),
    ((reshaped.Expanded,), {"body": 8}),
    ((reshaped.Borrowed,), {"embed": 8, "inner": 8, "read": 6}),
    ((reshaped.Borrowed, 2), {"embed": 8, "inner": 8, "read": 6}),
    ((reshaped.OneHead,), {"embed": 6, "query": 8}),
    ((reshaped.Transformer,), {"embed": 16, "attention.qkv": 4, "up": 24}),
    ((reshaped.Transformer, reshaped.Plain), {"embed": 16, "attention.qkv": 4, "up": 24}),
    ((reshaped.Transformer, reshaped.Separate), {"embed": 16, "attention.query": 4, "up": 24}),
    ((reshaped.Transformer, reshaped.Windows), {"embed": 16, "attention.query": 4, "up": 24}),
]


@pytest.mark.parametrize(("made", "units"), FREE)
def test_half_of_every_group_goes(made, units):
    model = seeded(*made)
    groups = prunable_groups(model, example())
    free = {group.root: len(group.units) for group in groups if not group.protected and group.width > 1}
    assert free == units
    scores = topocompress.score(model, example=example(), criterion="l1")
    plan = topocompress.plan(model, scores, example=example(), ratio=0.5)
    smaller = topocompress.apply(model, plan, example=example())  # which compares the two
    assert count_macs(smaller, example()) == plan.macs_after  # products of attention too
    for root in units:
        assert len(smaller.get_submodule(root).weight) == len(model.get_submodule(root).weight) // 2


def test_layers_whose_widths_only_agree_together_lose_the_same_channels():
    model = seeded(reshaped.Borrowed)
    scores = topocompress.score(model, example=example(), criterion="l1")
    plan = topocompress.plan(model, scores, example=example(), ratio=0.25, round_to=1)
    (inner,) = (entry for entry in plan.groups if entry.root == "inner")
    assert inner.also == ("reduce.0",)
    assert inner.filters == {"inner": (8, 6), "reduce.0": (8, 6)}
    assert [entry.remove for entry in plan.entries if entry.root in ("inner", "reduce.0")] == [inner.remove] * 2
    weights = [model.inner.weight, model.reduce[0].weight.flatten(1)]
    together = sum(weight.abs().sum(1) / weight.abs().sum(1).mean() for weight in weights)
    kept = [channel for channel in range(8) if channel not in inner.remove]
    assert together[list(inner.remove)].max() < together[kept].min()

    smaller = topocompress.apply(model, plan, example=example())
    for layer in (smaller.inner, smaller.reduce[0]):
        assert len(layer.weight) == 6
    torch.testing.assert_close(smaller.reduce[0].weight, model.reduce[0].weight[kept][:, kept])


def test_a_split_by_numbers_in_the_code_stays_and_they_are_the_reason():
    groups = prunable_groups(seeded(reshaped.Parted, lambda _: 4), example())
    (stem,) = (group for group in groups if group.root == "stem")
    assert stem.protected.startswith("a split of the channels by numbers written in the code in the forward pass")


def test_sizes_in_the_code_are_the_reason():
    groups = prunable_groups(seeded(reshaped.Laid, 128, reshaped.hard_coded), example())
    (body,) = (group for group in groups if group.root == "body")
    assert body.protected.startswith("Laid reads it by sizes written in its code")


def test_heads_whose_queries_keys_and_values_alternate_stay_and_operation_and_module_are_named():
    groups = prunable_groups(seeded(reshaped.Transformer, reshaped.Interleaved), example())
    kept = {group.root: group.protected for group in groups}
    assert kept["attention.qkv"] == Reason(Kind.REARRANGED, "parts that lie between one another (unbind) in attention")
    assert kept["embed"] == kept["up"] == ""


def test_a_layer_that_reads_a_part_of_the_channels_is_named_with_the_view_before_it():
    groups = {group.root: group.protected for group in prunable_groups(seeded(reshaped.Distribution), example())}
    assert groups["sides"] == Reason(
        Kind.LOST, ": mean (Conv2d) takes 4, behind a view of the channels in the forward pass"
    )
    assert groups["stem"] == ""


def test_a_layer_along_another_axis_is_the_reason():
    groups = {group.root: group.protected for group in prunable_groups(seeded(reshaped.Mixer), example())}
    assert groups["embed"].startswith(
        "a linear layer with another number of inputs (places), which goes along another axis"
    )


def test_a_layer_of_torch_that_stops_is_given_something_else():
    assert _written(f"{STOPS} norm (LayerNorm): why") == (
        "norm (LayerNorm) would be given another number of channels than it has: the code before it takes a size "
        "from elsewhere"
    )
