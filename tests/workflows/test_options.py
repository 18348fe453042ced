"""The four groups of options, and what is refused before anything is loaded."""

from dataclasses import fields
from typing import get_type_hints

import pytest

from topocompress.criteria import L1, Betti
from topocompress.criteria.base import Criterion
from topocompress.errors import PlanError
from topocompress.network.capture import Maps
from topocompress.network.task import Loss, Metric
from topocompress.planning.allocation import Allocation
from topocompress.planning.rules import Limits
from topocompress.runtime.resources import Resources
from topocompress.training.recipe import Recipe
from topocompress.workflows.options import Options, Output, Recovery, Removal, Scoring, check, with_options

GROUPS = (Removal, Scoring, Recovery, Output)
NAMES = {each.__name__: each for each in (Criterion, Maps, Resources)}
NAMES |= {"Allocation": Allocation, "Loss": Loss, "Metric": Metric}


def test_every_field_is_an_option_of_the_same_type_and_of_one_group_only():
    found = [
        (field.name, get_type_hints(group, localns=NAMES)[field.name]) for group in GROUPS for field in fields(group)
    ]
    assert len(found) == len(dict(found))
    assert dict(found) == get_type_hints(Options, localns=NAMES)


def test_an_option_goes_into_its_group_and_has_priority():
    groups = (Removal(ratio=0.5, min_channels=2), Scoring(), Recovery(finetune=1), Output())
    removal, scoring, recovery, output = with_options(*groups, {"ratio": 0.25, "criterion": "l1", "force": True})
    assert removal == Removal(ratio=0.25, min_channels=2)
    assert (scoring, recovery, output) == (Scoring(criterion="l1"), Recovery(finetune=1), Output(force=True))


def test_an_unknown_option_is_refused_as_python_does():
    with pytest.raises(TypeError, match=r"compress\(\) got an unexpected keyword argument 'max_beti'"):
        with_options(*(group() for group in GROUPS), {"max_beti": 300})


def test_a_removal_knows_its_rule_and_limits():
    removal = Removal(target_macs=0.5, min_channels=3, round_to=8)
    assert removal.rule == {"target_macs": 0.5}
    assert removal.limits == Limits(min_channels=3, round_to=8)
    with pytest.raises(PlanError, match="min_channels=0"):
        Removal(min_channels=0)


@pytest.mark.parametrize(("finetune", "epochs"), [(0, 0), (3, 3), (Recipe(epochs=2, lr=0.1), 2)])
def test_epochs_are_a_recipe_too(finetune, epochs):
    recovery = Recovery(finetune=finetune)
    assert recovery.epochs == recovery.recipe.epochs == epochs
    assert recovery.recipe == (finetune if isinstance(finetune, Recipe) else Recipe(epochs=epochs))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "give exactly one of"),
        ({"ratio": 0.5, "target_macs": 0.5}, "give exactly one of"),
        ({"max_betti": 300, "criterion": L1()}, "high scores mean remove; 'l1' is not one"),
        ({"max_betti": 300, "samples": 300}, "300 calibration samples cannot give a Betti number above 300"),
        ({"max_betti": 300, "samples": 300, "criterion": Betti()}, "300 calibration samples cannot"),
        ({"ratio": 0.5, "iterations": 2}, "there is no fine-tuning"),
        ({"ratio": 0.5, "activation": "topological"}, "fine-tuning learns"),
        ({"ratio": 0.5, "quantize": "int4"}, "quantize='int4' is unknown"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(PlanError, match=message):
        check(*with_options(*(group() for group in GROUPS), changes))


@pytest.mark.parametrize(
    "changes", [{"max_betti": 300}, {"ratio": 0.5, "samples": 3}, {"target_size": 9000.0, "finetune": 2}]
)
def test_what_can_be_passes(changes):
    check(*with_options(*(group() for group in GROUPS), changes))
