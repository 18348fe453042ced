import json
from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from tests.helpers.descriptions import PLAN, data, delivery, loaded
from tests.helpers.synthetic import chain, layer, scores
from topocompress.data.loading import STAND_IN
from topocompress.network.outputs import Outputs
from topocompress.reporting import describe
from topocompress.reporting.describe import FinetuneResult
from topocompress.training.finetuning import Epoch
from topocompress.training.recipe import Recipe
from topocompress.types import (
    GroupPlan,
)


def test_where_the_model_came_from():
    found = describe.model(loaded("a note", history=(PLAN,)), "sha256:1")
    assert found == {
        "source": "model.pt",
        "architecture": {"kind": "torchvision", "name": "resnet18", "options": {"num_classes": 3}},
        "preprocessing": {
            "input_shape": [3, 32, 48],
            "resize": None,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "interpolation": "bilinear",
            "pixel_range": None,
            "inputs": [],
        },
        "fingerprint": "sha256:1",
        "pruned_before": 1,
        "note": "a note",
    }
    assert json.loads(json.dumps(found)) == found


OUTPUTS = Outputs(measure="explained_variation", compared=(), what="explained variation")


def test_where_the_samples_came_from_and_how_many_there_are():
    found = describe.data(data("a note", skipped=("bad.png",), train=None), OUTPUTS)
    assert found == {
        "source": "imagefolder:photos",
        "stand_in": False,
        "labelled": True,
        "classes": 2,
        "measure": "accuracy",
        "compared_by": "explained variation",
        "samples": {"calibration": 5, "train": 0, "evaluation": 3},
        "note": "a note",
        "pixels": "",
        "skipped": ["bad.png"],
        "fingerprint": "sha256:2",
        "trained_on": None,
        "held_out_source": None,
    }
    assert describe.data(data(), OUTPUTS)["samples"]["train"] == 7
    assert describe.data(data(source=STAND_IN), OUTPUTS)["stand_in"]


def test_without_labels_it_is_measured_what_the_outputs_are_compared_by():
    assert describe.data(replace(data(), labelled=False), OUTPUTS)["measure"] == "explained_variation"


def test_what_pixels_were_taken_for_is_a_note_like_others_on_own_data():
    odd = replace(data("Data note."), pixels="0 is taken for black")
    assert describe.collect_warnings(odd, PLAN, delivery()) == ()
    assert describe.collect_notes(loaded(), odd) == ("Data note.", "0 is taken for black")
    assert describe.data(odd, OUTPUTS)["pixels"] == "0 is taken for black"


def test_an_input_size_that_was_assumed_is_a_note():
    unsure = replace(loaded(), doubt="Input size assumed: 3 x 32 x 32.")
    assert describe.collect_notes(unsure, data())[0] == "Input size assumed: 3 x 32 x 32."


def test_what_the_plan_does():
    found = describe.plan(PLAN)
    assert found["rule"] == {"max_betti": 300, "max_ratio": 0.5}
    assert (found["channels_before"], found["channels_removed"], found["dead_removed"]) == (12, 3, 1)
    assert found["macs_predicted"] == 600
    assert found["groups"][0] == {
        "root": "a",
        "before": 8,
        "after": 5,
        "asked": 4,
        "dead": 1,
        "coupled": ["a", "b"],
        "kept_because": "",
        "units": {},
    }
    assert found["groups"][2]["kept_because"] == "feeds the model's output"
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(("higher", "removed"), [("remove", [0, 2]), ("keep", [0, 3])])
def test_how_units_were_judged(higher, removed):
    """Two channels of ``a`` make a unit, with one of ``b``; its score is the mean of the three."""
    group = chain(8, root="a", size=2)
    group = replace(group, filters={**group.filters, "b": ((0,), (1,), (2,), (3,)), "unscored": ((0,),) * 4})
    values = {"a": layer([7, 2, 9, 4, 7, 4, 9, 1 / 3], dead=(0, 4)), "b": layer([7, 3, 6, 2 / 3], dead=(0,))}
    found_scores = replace(scores(values), higher=higher)
    gone = tuple(sorted(channel for unit in removed for channel in group.units[unit]))
    plan = replace(
        PLAN, groups=(GroupPlan(root="a", width=8, remove=gone), GroupPlan(root="h", width=2, protected="x"))
    )
    rows = describe.plan(plan, (group, chain(2, root="h")), found_scores)["groups"]
    assert rows[0]["units"] == {
        "layers": ["a", "b"],
        "scores": [7.0, 3.0, 8.0, 1.66667],
        "removed": removed,
        "dead": [0],
    }
    assert rows[1]["units"] == {}
    assert json.loads(json.dumps(rows)) == rows


def test_quartiles_of_every_layer_and_what_thresholds_would_remove():
    rows = describe.layer_rows(scores({"a": layer([1, 2, 3, 4, 5], dead=[0]), "b": layer([7])}), (2, 4.5))
    assert rows == [
        {
            "layer": "a",
            "filters": 5,
            "dead": 1,
            "min": 1.0,
            "q1": 2.0,
            "median": 3.0,
            "q3": 4.0,
            "max": 5.0,
            "above": {"2": 3, "4.5": 1},
        },
        {
            "layer": "b",
            "filters": 1,
            "dead": 0,
            "min": 7.0,
            "q1": 7.0,
            "median": 7.0,
            "q3": 7.0,
            "max": 7.0,
            "above": {"2": 1, "4.5": 1},
        },
    ]
    assert all(type(value) is not np.float64 for value in rows[0].values())


def test_scoring_says_criterion_and_layers():
    found = describe.scoring(scores({"a": layer([1, 2])}, samples=500))
    assert (found["criterion"], found["higher"], found["samples"]) == ("betti", "remove", 500)
    assert [row["layer"] for row in found["layers"]] == ["a"]
    assert json.loads(json.dumps(found)) == found


def test_tuning_has_its_history_or_is_empty():
    epochs = tuple(
        Epoch(epoch=n, loss=None if n == 0 else 0.5, validation_loss=0.4, accuracy=0.9, lr=0.1 * n, seconds=1.0)
        for n in range(2)
    )
    tuned = FinetuneResult(model=nn.Identity(), history=epochs, best_epoch=1, validation_samples=20)
    found = describe.tuning([tuned, tuned], Recipe(epochs=1, lr=0.1, distill=0.5))
    assert (found["epochs"], found["lr"], found["best_epoch"], found["validation_samples"]) == (1, 0.1, 1, 20)
    assert [(epoch["iteration"], epoch["epoch"]) for epoch in found["history"]] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert found["iterations"] == 2
    assert (found["distill"], found["measure"], found["epochs_run"]) == (0.5, "accuracy", 1)
    assert json.loads(json.dumps(found)) == found
    assert describe.tuning([], Recipe(epochs=5)) == {}


def test_samples_that_were_not_meant_for_tuning_are_told_of():
    recipe = Recipe(epochs=2, distill=1.0)
    assert describe.tuning_warnings(data(train=100), recipe) == ()
    (few,) = describe.tuning_warnings(data(train=7), recipe)
    assert "on 7 samples" in few
    assert describe.tuning_warnings(data(train=None), recipe) == (
        "Fine-tuned on the calibration samples, for want of others.",
    )
    (sentence,) = describe.tuning_warnings(data(source=STAND_IN), recipe)
    assert sentence.startswith("Fine-tuned on crops of two photographs, without labels")
    assert describe.tuning_warnings(data(source=STAND_IN), Recipe(epochs=0)) == ()
