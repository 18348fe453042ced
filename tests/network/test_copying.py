"""Copies that share nothing with the network they were made from, whatever its hooks reach."""

import copy
import threading

import pytest
import torch
from torch import nn

from tests.helpers.living_nets import HOOKED, HookedByClosure
from tests.helpers.tiny_nets import Chain, example, seeded
from topocompress.errors import ModelError
from topocompress.network.copying import copied


@pytest.mark.parametrize("kind", HOOKED)
def test_a_copy_computes_with_its_own_weights_and_leaves_the_original_alone(kind):
    model = seeded(kind)  # it has run, so its hooks are set
    twin = copied(model)
    kept = {key: value.clone() for key, value in getattr(model, "taken", {}).items()}
    with torch.no_grad():
        expected = model(example())
        assert torch.equal(twin(example()), expected)
        for parameter in twin.parameters():
            parameter.zero_()
        model(torch.zeros(1, 3, 8, 8))
        before = {key: value.clone() for key, value in getattr(model, "taken", {}).items()}
        assert not twin(example()).any()
        assert all(torch.equal(model.taken[key], value) for key, value in before.items())
        assert torch.equal(model(example()), expected)
    assert kept.keys() == before.keys()


def test_deepcopy_leaves_a_closure_in_the_original():
    """What the module is for: without it the copy reads what the original has computed."""
    model = seeded(HookedByClosure)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
        model.taken.clear()
        twin(example())
    assert model.taken


def test_maps_with_a_history_are_kept_without_it():
    model = seeded(HookedByClosure)
    model.nested = {"lists": [model(example()), 3]}
    twin = copied(model)
    assert torch.equal(twin.nested["lists"][0], model.nested["lists"][0])
    assert twin.nested["lists"][0].grad_fn is None
    assert model.nested["lists"][0].grad_fn is not None
    assert twin.taken["first"].grad_fn is None


def test_functions_that_reach_nothing_of_the_network_stay_what_they_are():
    seen = []
    model = seeded(Chain)
    model.first.register_forward_hook(lambda *_: seen.append(1))
    model.scale = len
    twin = copied(model)
    twin(example())
    assert seen == [1]
    assert twin.scale is len
    assert list(twin.first._forward_hooks.values()) == list(model.first._forward_hooks.values())


def test_an_empty_closure_is_left_empty():
    model = nn.Identity()

    def hook(*_):
        return later

    model.register_forward_hook(hook)
    copied(model)
    later = None


def test_what_cannot_be_copied_is_said():
    model = seeded(Chain)
    model.lock = threading.Lock()
    with pytest.raises(ModelError, match="Chain cannot be copied: TypeError: cannot pickle"):
        copied(model)
