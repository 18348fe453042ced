import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from tests.helpers.synthetic import chain, layer, scores
from topocompress.data.loading import STAND_IN, Data
from topocompress.deploy.measurement import Predictions
from topocompress.models.loading import LoadedModel
from topocompress.network.detectors import Boxes
from topocompress.reporting import describe
from topocompress.reporting.describe import FinetuneResult
from topocompress.surgery.trial import UNFOLLOWED
from topocompress.training.finetuning import Epoch
from topocompress.training.recipe import Recipe
from topocompress.types import (
    Architecture,
    Budget,
    Delivery,
    ExportCheck,
    GroupPlan,
    Latency,
    Measurement,
    Preprocessing,
    Probe,
    PruningPlan,
    Quantized,
)

ARCHITECTURE = Architecture(kind="torchvision", name="resnet18", options={"num_classes": 3})
PLAN = PruningPlan(
    model="m",
    rule={"max_betti": 300, "max_ratio": 0.5},
    criterion="betti",
    groups=(
        GroupPlan(root="a", width=8, remove=(1, 2, 5), dead=(2,), above=4, coupled=("a", "b")),
        GroupPlan(root="c", width=4),
        GroupPlan(root="head", width=10, protected="feeds the model's output"),
    ),
    macs_before=1000,
    macs_after=600,
)


def loaded(note="", history=()):
    return LoadedModel(
        module=nn.Identity(),
        architecture=ARCHITECTURE,
        preprocessing=Preprocessing(input_shape=(3, 32, 48)),
        source="model.pt",
        note=note,
        history=history,
    )


def samples(count):
    return TensorDataset(torch.zeros(count, 1))


def data(note="", skipped=(), train=7, source="imagefolder:photos"):
    return Data(
        calibration=samples(5),
        train=None if train is None else samples(train),
        evaluation=samples(3),
        labelled=True,
        classes=("cat", "dog"),
        source=source,
        note=note,
        skipped=skipped,
        fingerprint="sha256:2",
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
        },
        "fingerprint": "sha256:1",
        "pruned_before": 1,
        "note": "a note",
    }
    assert json.loads(json.dumps(found)) == found


def test_where_the_samples_came_from_and_how_many_there_are():
    found = describe.data(data("a note", skipped=("bad.png",), train=None))
    assert found == {
        "source": "imagefolder:photos",
        "stand_in": False,
        "labelled": True,
        "classes": 2,
        "samples": {"calibration": 5, "train": 0, "evaluation": 3},
        "note": "a note",
        "skipped": ["bad.png"],
        "fingerprint": "sha256:2",
    }
    assert describe.data(data())["samples"]["train"] == 7
    assert describe.data(data(source=STAND_IN))["stand_in"]


def test_a_note_on_own_data_is_no_warning():
    assert describe.collect_warnings(loaded(), data("Data note."), PLAN, delivery(), "") == ()


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
    assert [(epoch["step"], epoch["epoch"]) for epoch in found["history"]] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert found["steps"] == 2
    assert (found["distill"], found["measure"], found["epochs_run"]) == (0.5, "accuracy", 1)
    assert json.loads(json.dumps(found)) == found
    assert describe.tuning([], Recipe(epochs=5)) == {}


def test_samples_that_were_not_meant_for_tuning_are_told_of():
    recipe = Recipe(epochs=2, distill=1.0)
    assert describe.tuning_warnings(data(), recipe) == ()
    assert describe.tuning_warnings(data(train=None), recipe) == (
        "Fine-tuned on the calibration samples, for want of others.",
    )
    (sentence,) = describe.tuning_warnings(data(source=STAND_IN), recipe)
    assert sentence.startswith("Fine-tuned on crops of two photographs, without labels")
    assert describe.tuning_warnings(data(source=STAND_IN), Recipe(epochs=0)) == ()


def sides(*medians):
    """Before and after, from (before, after) medians of batches 1, 2, ..."""
    return tuple(
        Measurement(
            parameters=1,
            macs=1,
            latency=tuple(
                Latency(batch=batch, median_ms=pair[side], p95_ms=99.0, runs=5) for batch, pair in enumerate(medians, 1)
            ),
        )
        for side in (0, 1)
    )


def delivery(*medians, **extra):
    before, after = sides(*medians)
    check = ExportCheck(samples=1, max_abs=0.0, max_rel=0.0, top1_agreement=1.0, opset=18)
    return Delivery(before=before, after=after, export=check, **extra)


def test_an_int8_file_is_a_warning_only_where_it_is_slower_or_missing():
    small = sides((4.0, 3.0))[1]
    good, bad = (Quantized(measurement=small, kept=kept, message="About INT8.") for kept in (True, False))
    assert describe.collect_warnings(loaded(), data(), PLAN, delivery(quantized=good), "") == ()
    assert describe.collect_warnings(loaded(), data(), PLAN, delivery(quantized=bad), "") == ("About INT8.",)
    assert describe.collect_warnings(loaded(), data(), PLAN, delivery(failed="None."), "") == ("None.",)


def budget(option, limit, *values):
    probes = tuple(Probe(macs=0.9 - n / 10, value=value, met=value <= limit) for n, value in enumerate(values))
    return Budget(option=option, limit=limit, probes=probes, samples=500)


def test_a_latency_outside_its_budget_is_told_of_beyond_noise():
    asked = budget("--target-latency", 0.6, 0.9, 0.59)
    assert describe.budget_missed(asked, sides((10.0, 6.4))) == ()
    (line,) = describe.budget_missed(asked, sides((10.0, 6.6)))
    assert "takes 0.66 of the original's latency, more than the 0.6 asked for" in line


def test_an_accuracy_outside_its_budget_is_told_of_beside_what_chose_it():
    asked = budget("--max-accuracy-drop", 1.0, 0.2, 0.9, 3.0)
    before, after = (replace(side, accuracy=accuracy) for side, accuracy in zip(sides(), (0.9, 0.886), strict=True))
    (line,) = describe.budget_missed(asked, (before, after))
    assert "1.4 points are lost, more than the 1 asked for; on the 500 samples that chose the size it was 0.9" in line
    assert describe.budget_missed(asked, (before, replace(after, accuracy=0.891))) == ()
    assert describe.budget_missed(asked, sides()) == ()


def test_without_a_budget_none_is_missed():
    assert describe.budget_missed(None, sides()) == ()
    assert describe.budget_missed(budget("--target-size", 1e6, 9e5), sides()) == ()


def test_what_a_reader_must_not_miss_comes_in_order():
    found = describe.collect_warnings(
        loaded("Model note."),
        data("Data note.", skipped=("bad.png", "worse.png"), source=STAND_IN),
        PLAN,
        delivery((4.0, 5.0), slow="Held back."),
        "Verdict.",
    )
    assert found == (
        "Model note.",
        "Data note.",
        "Verdict.",
        "2 files could not be read and were skipped, first bad.png.",
        "Held back.",
        "The smaller file is not faster at batch 1: 5.00 ms against 4.00 ms.",
    )


def test_groups_that_turned_out_to_be_misread_are_named_and_other_protected_ones_are_not():
    groups = tuple(GroupPlan(root=name, width=4, protected=UNFOLLOWED) for name in "defgh")
    found = describe.collect_warnings(loaded(), data(), replace(PLAN, groups=(*PLAN.groups, *groups)), delivery(), "")
    assert found == (f"Kept whole: d, e, f and 2 more, and what is coupled to it: {UNFOLLOWED}.",)


@pytest.mark.parametrize(
    ("medians", "slow"), [([(4, 3), (8, 7)], []), ([(4, 3), (8, 9)], [2]), ([(1, 2), (1, 2)], [1, 2]), ([], [])]
)
def test_each_batch_size_that_is_not_faster_is_named(medians, slow):
    found = describe.collect_warnings(loaded(), data(), PLAN, delivery(*medians), "")
    assert [line.split("batch ")[1].split(":")[0] for line in found] == [str(batch) for batch in slow]


def boxes(*scores):
    return Boxes(corners=np.zeros((len(scores), 4), np.float32), scores=np.array(scores), labels=np.ones(len(scores)))


def test_a_detector_that_finds_nothing_is_told_of():
    def predictions(*found):
        return Predictions(classes=np.empty(0, np.int64), accuracy=None, boxes=found)

    assert describe.nothing_found(predictions(boxes(0.1), boxes(0.9))) == ()
    assert describe.nothing_found(Predictions(classes=np.zeros(3, np.int64), accuracy=None)) == ()
    (sentence,) = describe.nothing_found(predictions(boxes(0.1), boxes()))
    assert sentence.startswith("The original finds nothing (score 0.5 or more) in the 2 held-out images")
