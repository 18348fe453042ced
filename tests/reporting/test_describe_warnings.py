"""What a reader must not miss."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.helpers.descriptions import PLAN, data, delivery, loaded, sides
from tests.helpers.output_kinds import KINDS, images, made
from topocompress.criteria import L1
from topocompress.criteria.persistence import Persistence
from topocompress.data.loading import ONE_LABEL, STAND_IN
from topocompress.deploy.measurement import Predictions
from topocompress.network.detectors import Boxes
from topocompress.network.outputs import outputs_of
from topocompress.network.variation import picked
from topocompress.reporting import describe
from topocompress.reporting.unseen import nothing_found, unseen
from topocompress.surgery.activations import Swapped
from topocompress.types import (
    GroupPlan,
    Quantized,
)
from topocompress.types.reasons import Kind, Reason


@pytest.mark.parametrize("kind", ["quantized", "half"])
def test_a_file_in_fewer_bits_is_a_warning_only_where_it_is_slower_or_missing(kind):
    small = sides((4.0, 3.0))[1]
    good, bad = (Quantized(measurement=small, kept=kept, message="About it.") for kept in (True, False))
    assert describe.collect_warnings(data(), PLAN, delivery(**{kind: good})) == ()
    assert describe.collect_warnings(data(), PLAN, delivery(**{kind: bad})) == ("About it.",)
    assert describe.collect_warnings(data(), PLAN, delivery(failed="None.")) == ("None.",)


def test_a_single_file_that_cannot_be_read_is_one_file():
    found = describe.collect_warnings(data(skipped=("bad.png",)), PLAN, delivery())
    assert found == ("1 file could not be read and was skipped, first bad.png.",)


def test_a_network_faster_than_what_it_lost_explains_is_told_of():
    def said(before, after, fewer):
        first, second = sides((before, after))
        first, second = (replace(side, macs=macs) for side, macs in ((first, int(1e6 * fewer)), (second, int(1e6))))
        found = describe.collect_warnings(data(), PLAN, replace(delivery(), before=first, after=second))
        return [line for line in found if "explains" in line]

    assert said(10.0, 5.0, 2.0) == said(2.0, 1.0, 1.4) == []
    assert said(9.55, 1.0, 3.91)[0].startswith("9.55× faster at 3.91× fewer MACs is more than removal explains")


def test_what_a_reader_must_not_miss_comes_in_order():
    found = describe.collect_warnings(
        data("Data note.", skipped=("bad.png", "worse.png"), source=STAND_IN),
        PLAN,
        delivery((4.0, 5.0), slow="Held back."),
        "Outdone.",
    )
    assert found == (
        "Data note.",
        "Outdone.",
        "2 files could not be read and were skipped, first bad.png.",
        "Held back.",
        "The smaller file is not faster at batch 1: 5.00 ms against 4.00 ms.",
    )


def test_notes_are_what_is_good_or_was_taken_for_granted():
    read = replace(data("Data note."), pixels="8 bits.")
    swapped = Swapped(model=torch.nn.Identity(), swapped=(), left=("a",))
    assert describe.collect_notes(loaded("Model note."), read, "Ahead.", swapped) == (
        "Ahead.",
        "Model note.",
        "Data note.",
        "8 bits.",
        "Not swapped: the activations a.",
    )
    assert describe.collect_notes(loaded(), data()) == ()


@pytest.mark.parametrize(
    ("note", "source", "warned"), [("x", STAND_IN, True), (ONE_LABEL, "photos", True), ("x", "photos", False)]
)
def test_a_note_on_the_data_is_a_warning_where_it_says_that_less_is_measured(note, source, warned):
    given = data(note, source=source)
    assert (note in describe.collect_warnings(given, PLAN, delivery())) is warned
    assert (note in describe.collect_notes(loaded(), given)) is not warned


def test_groups_that_turned_out_to_be_misread_are_named_and_other_protected_ones_are_not():
    groups = tuple(GroupPlan(root=name, width=4, protected=Reason(Kind.CHANGED)) for name in "defgh")
    found = describe.collect_warnings(data(), replace(PLAN, groups=(*PLAN.groups, *groups)), delivery())
    assert found == (f"Kept whole: d, e, f and 2 more, and what is coupled to it: {Reason(Kind.CHANGED)}.",)


@pytest.mark.parametrize(
    ("medians", "slow"), [([(4, 3), (8, 7)], []), ([(4, 3), (8, 9)], [2]), ([(1, 2), (1, 2)], [1, 2]), ([], [])]
)
def test_each_batch_size_that_is_not_faster_is_named(medians, slow):
    found = describe.collect_warnings(data(), PLAN, delivery(*medians))
    assert [line.split("batch ")[1].split(":")[0] for line in found] == [str(batch) for batch in slow]


def boxes(*scores):
    return Boxes(corners=np.zeros((len(scores), 4), np.float32), scores=np.array(scores), labels=np.ones(len(scores)))


def test_a_detector_that_finds_nothing_is_told_of():
    def predictions(*found):
        return Predictions(classes=np.empty(0, np.int64), accuracy=None, boxes=found)

    assert nothing_found(predictions(boxes(0.1), boxes(0.9))) == ()
    (sentence,) = nothing_found(predictions(boxes(0.1), boxes()))
    assert sentence.startswith("The original finds nothing (score 0.5 or more) in the 2 held-out images")


@pytest.mark.parametrize(
    ("kind", "labels", "criterion", "said"),
    [
        ("two heads", 0, L1(), ["Outputs that were not looked at: shape. What became of them is not known."]),
        ("two heads", None, L1(), []),
        ("two heads", None, Persistence(), ["Filters were chosen by what they do to the first output, colour, alone."]),
        ("binary", None, Persistence(), []),
    ],
)
def test_outputs_that_nobody_looked_at_are_named(kind, labels, criterion, said):
    outputs = outputs_of(made(KINDS[kind]), images(3), labels=labels)
    assert list(unseen(outputs, criterion)) == said


@pytest.mark.parametrize(
    ("classes", "labels", "said"),
    [
        ([2, 2, 2], None, "the same class, number 2, for all 3 held-out samples: agreement"),
        ([2, 2, 2], [0, 1, 2], "the same class, number 2, for all 3 held-out samples: agreement"),
        ([2, 2, 2], [2, 2, 2], ""),  # there is but one class
        ([2, 2, 1], None, ""),
        ([2], None, ""),
        ([[[0, 0]], [[0, 0]]], None, "for all 2 held-out samples, at every pixel"),
    ],
)
def test_one_class_for_all_samples_is_told_of(classes, labels, said):
    labels = None if labels is None else np.array(labels)
    found = nothing_found(Predictions(classes=np.array(classes), accuracy=None, labels=labels))
    assert len(found) == bool(said)
    assert said in "".join(found)


def test_outputs_that_are_the_same_for_all_samples_are_told_of():
    def predictions(**outputs):
        values = {name: picked(torch.tensor(rows)) for name, rows in outputs.items()}
        return Predictions(classes=np.empty(0, np.int64), accuracy=None, values=values)

    varied, still = [[1.0], [2.0]], [[3.0], [3.0]]
    assert nothing_found(predictions(output=varied)) == ()
    (alone,) = nothing_found(predictions(output=still))
    assert alone.startswith("The original gives the same output for all held-out samples: there is no variation")
    (one_of_two,) = nothing_found(predictions(boxes=varied, priors=still))
    assert one_of_two.startswith("The original's priors is the same for all held-out samples")
