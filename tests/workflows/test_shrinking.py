from dataclasses import replace

import pytest
import torch

from tests.helpers.jobs import data, loaded
from tests.helpers.trained import trained
from topocompress.criteria import L1
from topocompress.models.loading import fingerprint
from topocompress.training.finetuning import FinetuneResult
from topocompress.workflows.choosing import choose
from topocompress.workflows.job import Job
from topocompress.workflows.options import Recovery, Removal, Scoring
from topocompress.workflows.selecting import select
from topocompress.workflows.shrinking import shrink


class Counting:
    """Tunes by adding one to a bias, and counts how often."""

    def __init__(self):
        self.calls = 0

    def __call__(self, _job, model, *, teacher=None):
        self.calls += 1
        with torch.no_grad():
            model[-1].bias.add_(1)
        return FinetuneResult(model=model, history=(), best_epoch=self.calls, validation_samples=0)


@pytest.fixture
def tune(monkeypatch):
    counting = Counting()
    monkeypatch.setattr("topocompress.workflows.shrinking.tune", counting)
    return counting


def job(**rule):
    removal = Removal(round_to=1, **rule)
    how = {"scoring": Scoring(criterion=L1()), "recovery": Recovery(reconstruct=False)}
    return Job(loaded=loaded(trained()), data=data(), removal=removal, **how)


def widths(model):
    return [module.out_channels for module in model.modules() if isinstance(module, torch.nn.Conv2d)]


def test_one_round_removes_and_tunes_once(tune):
    made = job(ratio=0.5)
    before = fingerprint(made.model)
    selection = select(made)
    choice = choose(made, selection)
    result = shrink(made, selection, choice)
    assert choice.budget is None
    assert choice.made is None
    assert widths(result.model) == widths(result.bare) == [4, 8]
    assert tune.calls == len(result.tunings) == 1
    assert result.plan is choice.plan
    assert fingerprint(made.model) == before


def test_several_iterations_end_at_the_widths_of_one_and_tune_in_each(tune):
    made = job(ratio=0.5, iterations=3)
    selection = select(made)
    choice = choose(made, selection)
    result = shrink(made, selection, choice)
    assert widths(result.model) == widths(result.bare) == widths(result.cut) == [4, 8]
    assert [each.best_epoch for each in result.tunings] == [1, 2, 3]
    assert torch.allclose(result.model[-1].bias, trained()[-1].bias + 3)
    assert [len(entry.remove) for entry in result.plan.groups] == [len(entry.remove) for entry in choice.plan.groups]
    assert [entry.above for entry in result.plan.groups] == [entry.above for entry in choice.plan.groups]
    assert result.plan.model == choice.plan.model == fingerprint(made.model)
    assert (result.plan.macs_before, result.plan.macs_after) == (choice.plan.macs_before, choice.plan.macs_after)


def test_the_network_that_an_accuracy_budget_was_met_by_is_not_tuned_again(tune):
    made = job(max_accuracy_drop=30.0)
    selection = select(made)
    choice = choose(made, selection)
    tries = tune.calls
    result = shrink(made, selection, choice)
    assert tune.calls == tries == len(choice.budget.probes)
    assert result.plan == choice.plan
    assert choice.plan.rule["max_accuracy_drop"] == 30.0
    assert widths(result.model) == [
        entry.kept for entry in choice.plan.groups if entry.root in {"0", "3"} and not entry.protected
    ]


def test_a_size_does_not_wait_for_tuning(tune):
    made = job(target_size=9_000.0)
    selection = select(made)
    choice = choose(made, selection)
    assert tune.calls == 0
    assert choice.made is None
    assert choice.budget.option == "--target-size"
    assert all(probe.value <= 9_000 for probe in choice.budget.probes if probe.met)


def test_progress_of_the_search_is_shown(tune):
    made = job(max_accuracy_drop=30.0)
    steps = []
    told = replace(made, progress=lambda step, done, total: steps.append((step, done, total)))
    selection = select(told)
    choice = choose(told, selection)
    shown = [step for step in steps if step[0].startswith("searching: ")]
    tries = len(choice.budget.probes)
    assert [(done, total) for _, done, total in shown] == [
        pair for number in range(1, tries + 1) for pair in ((number - 1, number), (number, number))
    ]
