import copy
import re

import pytest
import torch
from torch import nn

from tests.helpers.tiny_nets import (
    ALL,
    HAND_WIRED,
    Chain,
    Concat,
    Depthwise,
    Grouped,
    Normed,
    Pointwise,
    Residual,
    SqueezeExcite,
    example,
    seeded,
)
from topocompress.dependencies.groups import explicit, find_groups
from topocompress.errors import ModelError, PlanError

OUTPUT = "feeds the model's output"


def groups_of(kind, **options):
    return {group.root: group for group in find_groups(seeded(kind), example(), **options)}


def singles(count):
    return tuple((channel,) for channel in range(count))


def wiring(group):
    """Layer → channels of a unit, and reader → inputs per unit, where each unit has as many."""
    return (
        {name: {len(unit) for unit in channels} for name, channels in group.filters.items()},
        {name: set(counts) for name, counts in group.readers.items()},
    )


def test_a_chain_has_one_group_per_layer():
    groups = groups_of(Chain)
    assert list(groups) == ["first", "second", "hidden", "head"]
    first = groups["first"]
    assert (first.width, first.units, first.filters) == (6, singles(6), {"first": singles(6)})
    assert first.readers == {"second": (1,) * 6}
    assert first.coupled == ("first", "norm", "second")
    assert first.protected == ""


def test_a_linear_layer_after_flatten_reads_each_channel_once_per_pixel():
    assert groups_of(Chain)["second"].readers == {"hidden": (4, 4, 4, 4)}


def test_the_output_layer_is_protected_even_where_linear_layers_are_asked_for():
    for linear in (False, True):
        groups = groups_of(Chain, linear=linear)
        assert groups["head"].protected == OUTPUT
        assert groups["head"].readers == {}


def test_a_convolution_that_feeds_the_output_is_protected():
    model = seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.Sigmoid()))
    assert [group.protected for group in find_groups(model, example())] == ["", OUTPUT]


def test_groups_of_linear_layers_alone_are_pruned_on_request_only():
    assert "--linear" in groups_of(Chain)["hidden"].protected
    hidden = groups_of(Chain, linear=True)["hidden"]
    assert (hidden.protected, hidden.filters, hidden.readers) == ("", {"hidden": singles(8)}, {"head": (1,) * 8})


def test_a_linear_layer_at_every_place_of_a_map_is_pruned_as_a_convolution_is():
    groups = groups_of(Pointwise)
    assert {root: group.protected for root, group in groups.items()} == {"stem": "", "up": "", "head": OUTPUT}
    assert wiring(groups["up"]) == ({"up": {1}}, {"down": {1}})
    assert wiring(groups["stem"]) == ({"stem": {1}, "down": {1}}, {"up": {1}, "head": {1}})


def test_layers_that_are_added_lose_the_same_channels():
    groups = groups_of(Residual)
    assert list(groups) == ["stem", "inner", "head"]
    assert groups["stem"].filters == {"stem": singles(8), "outer": singles(8)}
    assert groups["stem"].readers == {"inner": (1,) * 8, "head": (1,) * 8}
    assert set(groups["stem"].coupled) == {"stem", "outer", "norm", "inner", "head"}
    assert groups["inner"].filters == {"inner": singles(6)}
    assert groups["inner"].readers == {"outer": (1,) * 6}


def test_layers_side_by_side_are_groups_of_their_own_with_the_same_reader():
    groups = groups_of(Concat)
    assert list(groups) == ["left", "right", "reader", "head"]
    assert wiring(groups["left"]) == ({"left": {1}}, {"reader": {1}})
    assert wiring(groups["right"]) == ({"right": {1}}, {"reader": {1}})
    assert (groups["left"].width, groups["right"].width) == (4, 6)


def test_a_depthwise_layer_belongs_to_the_layer_before_it():
    groups = groups_of(Depthwise)
    assert list(groups) == ["expand", "project", "head"]
    assert groups["expand"].filters == {"expand": singles(8), "deep": singles(8)}
    assert groups["expand"].readers == {"project": (1,) * 8}


def test_a_gate_belongs_to_what_it_scales_and_its_bottleneck_is_free():
    groups = groups_of(SqueezeExcite)
    assert list(groups) == ["body", "squeeze", "head"]
    assert groups["body"].filters == {"body": singles(8), "excite": singles(8)}
    assert groups["body"].readers == {"squeeze": (1,) * 8, "head": (1,) * 8}
    assert (groups["squeeze"].filters, groups["squeeze"].readers) == ({"squeeze": singles(4)}, {"excite": (1,) * 4})


def test_a_grouped_convolution_loses_one_channel_of_each_of_its_groups():
    groups = groups_of(Grouped)
    assert groups["grouped"].units == ((0, 3, 6, 9), (1, 4, 7, 10), (2, 5, 8, 11))
    assert groups["grouped"].readers == {"after": (4, 4, 4)}
    assert groups["before"].units == ((0, 2, 4, 6), (1, 3, 5, 7))
    assert groups["before"].readers == {"grouped": (4, 4)}


@pytest.mark.parametrize(
    ("groups", "units"),
    {
        8: tuple((channel,) for channel in range(8)),
        4: ((0, 1), (2, 3), (4, 5), (6, 7)),
        1: tuple((channel,) for channel in range(8)),
    }.items(),
)
def test_a_group_norm_loses_whole_groups_where_there_are_more_of_them_than_channels_in_one(groups, units):
    body = {group.root: group for group in find_groups(seeded(Normed, groups), example())}["body"]
    assert body.units == units


def test_whole_groups_of_a_norm_go_together_where_a_grouped_convolution_must_lose_the_same_places():
    body = {group.root: group for group in find_groups(seeded(Normed, 4, 2), example())}["body"]
    assert body.units == ((0, 1, 4, 5), (2, 3, 6, 7))


def test_a_group_norm_loses_one_channel_of_each_of_its_groups():
    body = groups_of(Normed)["body"]
    assert body.units == ((0, 4), (1, 5), (2, 6), (3, 7))
    assert body.filters == {"body": body.units}
    assert body.readers == {"reader": (2, 2, 2, 2)}


def test_a_pattern_protects_every_group_with_a_matching_module():
    assert groups_of(Residual, ignore=["outer"])["stem"].protected == "ignored: outer"
    assert groups_of(Residual, ignore=["norm"])["stem"].protected == "ignored: norm"
    found = groups_of(Concat, ignore=["l*", "righ?"])
    assert [group.protected for group in found.values()] == ["ignored: left", "ignored: right", "", OUTPUT]


@pytest.mark.parametrize("pattern", ["oute", "Outer", "outer.weight", "*.0"])
def test_a_pattern_that_matches_no_layer_is_refused(pattern):
    with pytest.raises(PlanError, match=f"ignore={re.escape(repr(pattern))} matches no layer") as caught:
        groups_of(Residual, ignore=["stem", pattern])
    assert "stem, inner, outer, norm" in caught.value.hint


@pytest.mark.parametrize("kind", [*ALL, *HAND_WIRED])
def test_units_share_out_the_channels_and_every_layer_has_its_part_of_each(kind):
    model = seeded(kind)
    seen = []
    for group in find_groups(model, example(), linear=True):
        assert sorted(channel for unit in group.units for channel in unit) == list(range(group.width))
        assert group.filters[group.root] == group.units
        assert group.width == model.get_submodule(group.root).weight.shape[0]
        for name, channels in group.filters.items():
            seen.append(name)
            assert len(channels) == len(group.units)
            flat = [channel for unit in channels for channel in unit]
            assert len(set(flat)) == len(flat)
            assert set(flat) <= set(range(model.get_submodule(name).weight.shape[0]))
        assert all(len(counts) == len(group.units) for counts in group.readers.values())
        assert {*group.filters, *group.readers} <= set(group.coupled)
    layers = [name for name, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    assert sorted(seen) == sorted(layers)  # each layer's filters are in one group


@pytest.mark.parametrize("kind", ALL)
def test_every_input_is_read_off_by_some_group_or_comes_from_outside(kind):
    model = seeded(kind)
    read = {}
    for group in find_groups(model, example(), linear=True):
        for name, counts in group.readers.items():
            read[name] = read.get(name, 0) + sum(counts)
    for name, count in read.items():
        layer = model.get_submodule(name)
        assert count == (layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels)


@pytest.mark.parametrize("kind", ALL)
def test_finding_groups_leaves_the_model_and_the_random_state_alone(kind):
    model = seeded(kind).train()
    frozen = next(iter(model.parameters())).requires_grad_(False)
    next(iter(model.children())).eval()
    state, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    random, grads = torch.get_rng_state(), torch.is_grad_enabled()
    find_groups(model, example())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert [p is frozen for p in model.parameters()] == [not p.requires_grad for p in model.parameters()]
    assert all(parameter.grad is None and parameter.grad_fn is None for parameter in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.is_grad_enabled() == grads


def test_groups_are_found_without_gradients_too_and_are_the_same_each_time():
    with torch.no_grad():
        once = find_groups(seeded(Residual), example())
    assert once == find_groups(seeded(Residual), example())


def test_a_model_that_does_not_run_says_shape_and_cause_and_keeps_no_hooks():
    model = seeded(Chain)
    with pytest.raises(ModelError, match=r"does not accept inputs of shape \(1, 4, 8, 8\), torch.float32: ") as e:
        find_groups(model, torch.zeros(1, 4, 8, 8))
    assert "--input-size" in e.value.hint
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_with_weights_frozen_throughout_is_traced():
    model = seeded(Chain).requires_grad_(False)
    assert [g.root for g in find_groups(model, example())] == ["first", "second", "hidden", "head"]
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_network_is_copied_only_where_something_is_to_be_written_out(monkeypatch):
    copies = []
    for place in ("topocompress.dependencies.groups.copied", "topocompress.network.baking.copied"):
        monkeypatch.setattr(place, lambda model: copies.append(model) or copy.deepcopy(model))
    plain = seeded(Chain)
    assert explicit(plain) is plain
    assert copies == []
    normed, attending = seeded(Chain), nn.Sequential(nn.MultiheadAttention(4, 2))
    nn.utils.parametrizations.weight_norm(normed.first)
    for model in (normed, attending):
        assert explicit(model) is not model
    assert copies == [normed, attending]
