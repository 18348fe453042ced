"""Arguments of wrong types: refused in a sentence by every public function, before any work."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

import topocompress
from topocompress.errors import DataError, OptionError
from topocompress.runtime.arguments import check_argument, checked
from topocompress.training.recipe import Recipe
from topocompress.types import Scores

Alias = Literal["a", "b"]


@checked
def function(
    number: float,
    whole: int = 1,
    *,
    text: str | Path | None = None,
    flag: bool = False,
    names: Sequence[str] = (),
    rounding: int | Literal["auto"] = "auto",
    recipe: Recipe | None = None,
    alias: Alias = "a",
    **more: object,
) -> tuple[object, ...]:
    """What it was given."""
    return number, whole, text, flag, tuple(names), rounding, recipe, alias, more


GOOD = [
    {"number": 1},
    {"number": np.float32(0.5), "whole": np.int64(3), "flag": np.bool_(True)},
    {"number": 0.5, "text": Path("x"), "names": ["a"], "rounding": 8, "recipe": Recipe(epochs=1), "alias": 7, "b": 3},
]
BAD = [
    ({"number": "0.3"}, "number='0.3' is of type str\nAsked for: a number."),
    ({"number": True}, "number=True is of type bool\nAsked for: a number."),
    ({"number": 1, "whole": 1.0}, "whole=1.0 is of type float\nAsked for: a whole number."),
    ({"number": 1, "text": 5}, "text=5 is of type int\nAsked for: a text or a path or None."),
    ({"number": 1, "flag": "yes"}, "flag='yes' is of type str\nAsked for: True or False."),
    ({"number": 1, "names": "stem"}, "names='stem' is of type str\nAsked for: a list of texts."),
    ({"number": 1, "names": [1]}, "names=[1] is of type list\nAsked for: a list of texts."),
    ({"number": 1, "rounding": "x"}, "rounding='x' is of type str\nAsked for: a whole number or 'auto'."),
    ({"number": 1, "recipe": {}}, "recipe={} is of type dict\nAsked for: a Recipe or None."),
    ({"number": [0] * 99}, "number=[0, 0, "),
]


@pytest.mark.parametrize("given", GOOD)
def test_what_fits_passes_as_it_is(given):
    assert function(**given)[0] == given["number"]


@pytest.mark.parametrize(("given", "said"), BAD)
def test_what_does_not_is_said_and_what_is_asked_for(given, said):
    with pytest.raises(OptionError, match=f"^{re.escape(said)}"):
        function(**given)


def test_a_class_need_not_be_imported_to_be_asked_for():
    check_argument("recipe", Recipe(epochs=1), "Recipe | int", {})
    with pytest.raises(OptionError, match=r"Asked for: a Criterion\."):
        check_argument("criterion", Recipe(epochs=1), "Criterion", {})


def test_a_function_keeps_its_signature():
    assert list(inspect.signature(topocompress.compress).parameters)[:2] == ["model", "data"]
    assert function.__doc__ == "What it was given."
    with pytest.raises(TypeError, match="missing a required argument: 'number'"):
        function()


SCORES = Scores(criterion="x", higher="keep", settings={}, layers={}, samples=0, model="")
JOB = {"model": "digits", "data": "digits", "ratio": 0.3, "criterion": "l1", "samples": 20, "dry_run": True}


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"ratio": "0.3"}, OptionError, "ratio='0.3' is of type str"),
        ({"samples": None}, OptionError, "samples=None is of type NoneType"),
        ({"data": 5}, OptionError, "data=5 is of type int"),
        ({"model": 5}, OptionError, "model=5 is of type int"),
        ({"criterion": 5}, OptionError, "criterion=5 is of type int"),
        ({"finetune": "3"}, OptionError, "finetune='3' is of type str"),
        ({"progress": 3}, OptionError, "a function of"),
        ({"removal": 3}, OptionError, "a Removal or None"),
        ({"seed": -1}, DataError, "seed=-1 must lie between"),
        ({"resume": "x"}, OptionError, "True or False"),
        ({"model": "no/such/file.pt"}, topocompress.TopocompressError, "no/such/file.pt does not exist"),
        ({"ratio": 1.5}, topocompress.TopocompressError, "ratio=1.5 must lie between 0 and 1\nFor example: ratio=0.5"),
    ],
)
def test_compress_refuses_what_it_cannot_take(given, error, said):
    with pytest.raises(error, match=re.escape(said)):
        topocompress.compress(**{**JOB, **given})


def test_single_steps_do_too():
    with pytest.raises(OptionError, match="model='digits' is of type str\nAsked for: a Module"):
        topocompress.score("digits")
    with pytest.raises(OptionError, match="ratio='x' is of type str"):
        topocompress.plan(torch.nn.Conv2d(1, 1, 1), SCORES, example=torch.zeros(1, 1, 2, 2), ratio="x")
    with pytest.raises(OptionError, match="epochs='3' is of type str"):
        Recipe(epochs="3")
