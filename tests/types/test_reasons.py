"""Reasons are told apart by their kind, wherever they are taken; their words are those of the kind."""

import copy
import json
import pickle
from dataclasses import asdict

import pytest

from topocompress.surgery.trial import found_on_trial
from topocompress.types import GroupPlan
from topocompress.types.reasons import ON_TRIAL, Kind, Reason


def test_a_reason_is_its_sentence_about_its_place():
    reason = Reason(Kind.IGNORED, "stem.*")
    assert (reason, reason.kind, reason.where) == ("ignored: stem.*", Kind.IGNORED, "stem.*")
    assert Reason(Kind.OUTPUT) == "feeds the model's output"


@pytest.mark.parametrize("again", [copy.deepcopy, copy.copy, lambda reason: pickle.loads(pickle.dumps(reason))])  # noqa: S301
def test_copies_have_the_same_kind(again):
    found = again(Reason(Kind.WRITTEN, "body (Laid) {}"))
    assert (found, found.kind) == (Reason(Kind.WRITTEN, "body (Laid) {}"), Kind.WRITTEN)


def test_in_a_file_a_reason_is_text():
    plan = GroupPlan(root="a", width=4, protected=Reason(Kind.CHANGED))
    assert asdict(plan)["protected"].kind is Kind.CHANGED
    assert json.loads(json.dumps(asdict(plan)))["protected"] == Kind.CHANGED.value


def test_what_showed_on_trial_is_told_by_the_kind_and_not_by_words():
    assert [kind for kind in Kind if found_on_trial(Reason(kind, "there"))] == [k for k in Kind if k in ON_TRIAL]
    assert not found_on_trial(str(Kind.CHANGED.value))  # words alone
    assert not found_on_trial("")


def test_no_two_kinds_say_the_same():
    assert len({kind.value for kind in Kind}) == len(Kind)
