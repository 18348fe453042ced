"""Budgets of quality: the search, and what the held-out samples say of what it found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.helpers.jobs import data, loaded
from tests.helpers.trained import trained
from topocompress.criteria import L1
from topocompress.deploy.measurement import Predictions
from topocompress.planning.selection import Reached
from topocompress.workflows import choosing
from topocompress.workflows.job import Job
from topocompress.workflows.options import Removal, Scoring
from topocompress.workflows.selecting import select


@dataclass(frozen=True)
class Made:
    """As much of a network that was made as a choice asks for."""

    model: SimpleNamespace
    plan: object = None


def chosen(monkeypatch, *, held_out, limit=1.0):
    """What is chosen where a network that leaves a share s loses 2 (1 - s) as judged, and ``held_out(s)`` held out."""
    job = Job(
        loaded=loaded(trained()),
        data=data(),
        removal=Removal(round_to=1, max_accuracy_drop=limit),
        scoring=Scoring(criterion=L1()),
    )
    carried = []

    def carry_out(_job, plan):
        carried.append(plan.macs_after / plan.macs_before)
        return Made(SimpleNamespace(share=carried[-1]))

    def judge_of(_job, _name, _limit, finish, _folder):
        def judge(plan):
            lost = 2 * (1 - finish(plan).share)
            return Reached(value=lost - 0.1, upper=lost)

        return judge, 500

    def evaluated(self, model, _what):
        lost = 0.0 if model is self.model else held_out(model.share)
        return Predictions(classes=np.empty(0, np.int64), accuracy=0.9 - lost / 100)

    monkeypatch.setattr(choosing, "carry_out", carry_out)
    monkeypatch.setattr(choosing, "judge_of", judge_of)
    monkeypatch.setattr(Job, "evaluated", evaluated)
    return choosing.choose(job, select(job)), carried


def share(plan):
    return plan.macs_after / plan.macs_before


def test_the_smallest_within_the_budget_is_taken_where_the_held_out_samples_agree(monkeypatch):
    choice, carried = chosen(monkeypatch, held_out=lambda share: 2 * (1 - share))
    met = [probe for probe in choice.budget.probes if probe.met]
    assert share(choice.plan) == min(probe.macs for probe in met) == choice.made.model.share
    assert (choice.budget.stepped_back, choice.budget.kept, choice.budget.apart) == (0, True, False)
    assert choice.plan.rule["max_accuracy_drop"] == 1.0
    assert len(carried) == len(choice.budget.probes)  # none was made twice, none but those of the search


def test_where_they_do_not_agree_the_next_larger_one_is_taken(monkeypatch):
    choice, _ = chosen(monkeypatch, held_out=lambda share: 2.4 * (1 - share), limit=1.3)
    met = sorted(probe.macs for probe in choice.budget.probes if probe.met)
    larger = [macs for macs in met if 2.4 * (1 - macs) <= 1.3]
    assert 0 < len(larger) < len(met)
    assert share(choice.plan) == larger[0] == choice.made.model.share
    assert choice.budget.stepped_back == len(met) - len(larger)
    assert choice.budget.kept


def test_where_none_of_a_search_is_within_it_larger_ones_are_tried(monkeypatch):
    choice, _ = chosen(monkeypatch, held_out=lambda share: 6 * (1 - share))
    *searched, first, second = choice.budget.probes
    assert max(probe.macs for probe in searched if probe.met) < first.macs < second.macs
    assert 6 * (1 - first.macs) > 1 >= 6 * (1 - second.macs)
    assert share(choice.plan) == second.macs == choice.made.model.share
    assert choice.budget.kept


def test_where_none_is_within_it_the_largest_is_taken_and_it_is_known(monkeypatch):
    choice, _ = chosen(monkeypatch, held_out=lambda _: 5.0)
    assert share(choice.plan) == max(probe.macs for probe in choice.budget.probes if probe.met)
    assert not choice.budget.kept


def test_what_could_be_lost_counts_not_what_was_measured(monkeypatch):
    choice, _ = chosen(monkeypatch, held_out=lambda _: 0.0)
    for probe in choice.budget.probes:
        assert probe.met == (probe.upper <= 1.0)
        assert probe.value == pytest.approx(probe.upper - 0.1)
    assert replace(choice.budget, probes=()).limit == 1.0
