import contextlib
import copy
import functools
from dataclasses import replace

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.densenet import DenseNet
from torchvision.models.resnet import Bottleneck, ResNet

from tests.helpers.tiny_nets import (
    ALL,
    Chain,
    Concat,
    Depthwise,
    Grouped,
    Halves,
    Normed,
    PaddedShortcut,
    Residual,
    Rolled,
    Split,
    SqueezeExcite,
    example,
    seeded,
)
from topocompress.criteria import L1
from topocompress.dependencies.groups import find_groups
from topocompress.errors import SurgeryError
from topocompress.planning.plan import make_plan
from topocompress.planning.rules import Limits
from topocompress.surgery.kept import kept_channels
from topocompress.surgery.removal import apply
from topocompress.types import GroupPlan, PruningPlan
from topocompress.workflows.single_steps import layer_costs, score_groups

# Root → [(reader, the reader's inputs that see a channel of the root)], worked out by hand.
WIRES = {
    Chain: {"first": [("second", lambda c: [c])], "second": [("hidden", lambda c: range(4 * c, 4 * c + 4))]},
    Residual: {"stem": [("inner", lambda c: [c]), ("head", lambda c: [c])], "inner": [("outer", lambda c: [c])]},
    Concat: {
        "left": [("reader", lambda c: [c])],
        "right": [("reader", lambda c: [4 + c])],
        "reader": [("head", lambda c: [c])],
    },
    Depthwise: {"expand": [("project", lambda c: [c])], "project": [("head", lambda c: [c])]},
    SqueezeExcite: {
        "body": [("squeeze", lambda c: [c]), ("head", lambda c: [c])],
        "squeeze": [("excite", lambda c: [c])],
    },
    Grouped: {
        "before": [("grouped", lambda c: [c])],
        "grouped": [("after", lambda c: [c])],
        "after": [("head", lambda c: [c])],
    },
}


def planned(model, inputs, **rule):
    limits = Limits(round_to=rule.pop("round_to", 1))
    groups = find_groups(model, inputs)
    scores = score_groups(model, groups, L1(), None)
    return make_plan(scores, groups, layer_costs(model, inputs), limits=limits, **rule)


def by_hand(**removals):
    groups = tuple(GroupPlan(root=root, width=width, remove=gone) for root, (width, gone) in removals.items())
    return PruningPlan(model="", rule={}, criterion="hand", groups=groups, macs_before=0, macs_after=0)


def unread(model, plan):
    """What the model computes when nobody reads the removed channels: inputs set to zero by hooks."""
    with contextlib.ExitStack() as hooks, torch.no_grad():
        for entry in plan.groups:
            for reader, inputs in WIRES[type(model)].get(entry.root, []):
                gone = [index for channel in entry.remove for index in inputs(channel)]

                def hide(_module, arguments, gone=gone):
                    hidden = arguments[0].clone()
                    hidden[:, gone] = 0
                    return (hidden,)

                hooks.callback(model.get_submodule(reader).register_forward_pre_hook(hide).remove)
        return model(example())


def macs(model, inputs):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(inputs)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("kind", WIRES)
def test_the_pruned_model_computes_what_the_original_does_without_the_removed_channels(kind):
    model = seeded(kind)
    plan = planned(model, example(), ratio=0.4)
    smaller = apply(model, plan, example=example(), any_weights=True)
    with torch.no_grad():
        actual, whole = smaller(example()), model(example())
    assert torch.allclose(actual, unread(model, plan), atol=1e-5)
    assert not torch.allclose(actual, whole, atol=1e-3)
    for entry in plan.groups:
        assert smaller.get_submodule(entry.root).weight.shape[0] == entry.kept
    assert macs(smaller, example()) == plan.macs_after < plan.macs_before == macs(model, example())


def test_group_norm_is_taken_over_the_channels_that_stay():
    model = seeded(Normed)
    smaller = apply(model, by_hand(body=(8, (1, 3, 5, 7))), example=example(), any_weights=True)
    keep = [0, 2, 4, 6]
    expected = copy.deepcopy(model)
    expected.norm = nn.GroupNorm(2, 4)
    with torch.no_grad():
        expected.norm.weight.copy_(model.norm.weight[keep])
        expected.norm.bias.copy_(model.norm.bias[keep])
        for tensor in (expected.body.weight, expected.body.bias):
            tensor.data = tensor.data[keep]
        expected.reader.weight.data = expected.reader.weight.data[:, keep]
        assert torch.allclose(smaller(example()), expected(example()), atol=1e-6)


@pytest.mark.parametrize(("groups", "gone", "left"), [(4, (2, 3, 6, 7), 2), (8, (1, 5), 6), (4, (0, 2, 4, 6), 4)])
def test_a_group_norm_has_as_many_groups_as_are_left_whole(groups, gone, left):
    model = seeded(Normed, groups)
    smaller = apply(model, by_hand(body=(8, gone)), example=example(), any_weights=True)
    assert (smaller.norm.num_groups, smaller.norm.num_channels) == (left, 8 - len(gone))
    blind = copy.deepcopy(model)  # whose reader does not see what went
    with torch.no_grad():
        blind.reader.weight[:, list(gone)] = 0
        same = torch.allclose(smaller(example()), blind(example()), atol=1e-6)
    assert same is (left < groups)  # whole groups go without a trace, parts of all change every mean


@pytest.mark.parametrize("kind", ALL)
def test_the_original_is_untouched_and_the_result_has_its_modes_and_flags(kind):
    model = seeded(kind).train()
    list(model.children())[1].eval()
    model.head.bias.requires_grad_(False)
    state, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    modes = {name: module.training for name, module in model.named_modules()}
    smaller = apply(model, planned(model, example(), ratio=0.5), example=example(), any_weights=True)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    for one in (model, smaller):
        assert {name: module.training for name, module in one.named_modules()} == modes
        assert [name for name, p in one.named_parameters() if not p.requires_grad] == ["head.bias"]
        assert all(parameter.grad is None and parameter.is_leaf for parameter in one.parameters())
        assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in one.modules())
    assert not {id(p) for p in smaller.parameters()} & {id(p) for p in model.parameters()}


def test_the_result_can_be_trained_and_pruned_again():
    model = seeded(Residual)
    for _ in range(2):
        before, model = model, apply(model, planned(model, example(), ratio=0.5), example=example(), any_weights=True)
        assert macs(model, example()) < macs(before, example())
    model.train()(example()).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert (model.stem.out_channels, model.inner.out_channels) == (2, 2)  # round(1.5) is even


def test_a_plan_that_removes_nothing_gives_an_equal_copy():
    model = seeded(Concat)
    smaller = apply(model, by_hand(left=(4, ()), right=(6, ())), example=example(), any_weights=True)
    assert smaller is not model
    assert torch.equal(smaller(example()), model(example()))


@pytest.mark.parametrize(
    ("root", "width"), [("first", 7), ("nowhere", 6), ("norm", 6)], ids=["another width", "no such layer", "no root"]
)
@pytest.mark.parametrize("remove", [(), (0,)])
def test_a_plan_for_another_model_is_refused(root, width, remove):
    with pytest.raises(SurgeryError, match=f"has a group '{root}' of width {width}, the model has not") as caught:
        apply(seeded(Chain), by_hand(**{root: (width, remove)}), example=example(), any_weights=True)
    assert "this very model" in caught.value.hint


def test_a_plan_that_changes_the_number_of_classes_is_refused():
    with pytest.raises(SurgeryError, match=r"outputs change shape from \[\(1, 5\)\] to \[\(1, 4\)\]"):
        apply(seeded(Chain), by_hand(head=(5, (0,))), example=example(), any_weights=True)


def test_a_plan_that_leaves_a_layer_without_inputs_is_refused():
    with pytest.raises(SurgeryError, match="body: removing 4 of 8 channels empties a layer"):
        apply(seeded(Halves), by_hand(body=(8, (4, 5, 6, 7))), example=example(), any_weights=True)


@pytest.mark.parametrize(
    ("kind", "root", "width", "remove"),
    [(Grouped, "before", 8, (0,)), (Grouped, "grouped", 12, (0,)), (Normed, "body", 8, (0,))],
)
def test_a_plan_that_tears_a_unit_apart_is_refused(kind, root, width, remove):
    with pytest.raises(SurgeryError, match="runs no more after removal") as caught:
        apply(seeded(kind), by_hand(**{root: (width, remove)}), example=example(), any_weights=True)
    assert "--ignore" in caught.value.hint


def test_a_plan_with_uneven_places_in_a_grouped_layer_is_noticed_by_what_it_computes():
    with pytest.raises(SurgeryError, match="does not compute what the original computes"):
        apply(seeded(Grouped), by_hand(before=(8, (0, 2, 4, 7))), example=example(), any_weights=True)


def test_a_pruned_model_that_gives_nan_is_refused():
    model = seeded(Chain)
    with torch.no_grad():
        model.head.bias[0] = torch.nan
    with pytest.raises(SurgeryError, match="NaN or infinity"):
        apply(model, by_hand(first=(6, (0,))), example=example(), any_weights=True)


# --- channels wired by hand, in ways that the tracer misreads ---


@pytest.mark.parametrize("kind", [PaddedShortcut, Rolled])
def test_misread_wiring_is_noticed_and_the_rest_can_be_pruned(kind):
    model = seeded(kind)
    with pytest.raises(SurgeryError, match="does not compute what the original computes") as caught:
        apply(model, planned(model, example(), ratio=0.25), example=example(), any_weights=True)
    assert "--ignore" in caught.value.hint
    layer, free = {PaddedShortcut: ("stem", "inner"), Rolled: ("body", "reader")}[kind]
    plan = planned(model, example(), ratio=0.25)
    kept = replace(
        plan, groups=tuple(replace(g, remove=(), filters={}, readers={}) if g.root == layer else g for g in plan.groups)
    )
    smaller = apply(model, kept, example=example(), any_weights=True)
    assert smaller.get_submodule(free).out_channels < model.get_submodule(free).out_channels


@pytest.mark.parametrize(
    ("kind", "remove", "what"),
    [
        (Halves, (0, 3), "runs no more after removal"),
        (Halves, (0, 5), "runs no more after removal"),
        (Split, (0, 1), "has 4 channels after removal, not 6"),
        (Split, (1, 6), "has 4 channels after removal, not 6"),
    ],
)
def test_a_cut_that_no_longer_fits_is_refused(kind, remove, what):
    with pytest.raises(SurgeryError, match=what):
        apply(seeded(kind), by_hand(body=(8, remove)), example=example(), any_weights=True)


def test_a_split_that_loses_the_same_places_on_both_sides_works():
    model = seeded(Split)
    smaller = apply(model, by_hand(body=(8, (1, 5))), example=example(), any_weights=True)
    masked = copy.deepcopy(model)
    with torch.no_grad():
        masked.left.weight[:, 1] = 0
        masked.right.weight[:, 1] = 0
        assert torch.allclose(smaller(example()), masked(example()), atol=1e-6)


# --- real families ---


FAMILIES = {
    **{
        name: functools.partial(torchvision.models.get_model, name, weights=None)
        for name in ("squeezenet1_1", "resnet18", "mobilenet_v3_small", "regnet_x_400mf")
    },
    "resnext": functools.partial(ResNet, Bottleneck, [1, 2, 1, 1], groups=32, width_per_group=4),
    "densenet": functools.partial(DenseNet, growth_rate=16, block_config=(2, 3, 3, 2), num_init_features=32),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_torchvision_families_reach_planned_widths_and_predicted_macs(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = FAMILIES[name](num_classes=10)
        with torch.no_grad():
            model.train()(torch.randn(8, 3, 64, 64))
        inputs = torch.randn(1, 3, 64, 64)
    plan = planned(model.eval(), inputs, target_macs=0.7, round_to="auto")
    smaller = apply(model, plan, example=inputs, any_weights=True)
    assert macs(model, inputs) == plan.macs_before
    assert macs(smaller, inputs) == plan.macs_after <= 0.7 * plan.macs_before
    assert plan.removed > 0
    for entry in plan.groups:
        assert smaller.get_submodule(entry.root).weight.shape[0] == entry.kept
    with torch.no_grad():
        assert smaller(torch.cat([inputs, -inputs])).shape == (2, 10)


def test_a_plan_for_other_weights_is_refused_unless_told():
    plan = by_hand(first=(6, (0,)))
    with pytest.raises(SurgeryError, match="another model"):
        apply(seeded(Chain), plan, example=example())
    assert apply(seeded(Chain), plan, example=example(), any_weights=True).first.out_channels == 5


@pytest.mark.parametrize(
    ("kind", "norm", "removals", "expected"),
    [
        (Chain, "norm", {"first": (6, (1, 4))}, [0, 2, 3, 5]),
        (Concat, "norm", {"left": (4, (0,)), "right": (6, (3,))}, [1, 2, 3, 4, 5, 6, 8, 9]),
        (Residual, "norm", {"stem": (8, (0, 1, 2))}, [3, 4, 5, 6, 7]),
        (Residual, "norm", {"inner": (6, (5,))}, list(range(8))),
    ],
)
def test_which_channels_of_a_norm_stay(kind, norm, removals, expected):
    model = seeded(kind)
    before = copy.deepcopy(model.state_dict())
    assert kept_channels(model, by_hand(**removals), example=example())[norm].tolist() == expected
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
