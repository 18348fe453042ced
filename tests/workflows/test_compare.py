"""Criteria against each other: the same widths, other samples per seed, finished results used again."""

from dataclasses import replace

import pytest

from topocompress.data.loading import load_data
from topocompress.deploy.measurement import count_macs
from topocompress.errors import CriterionError, DataError, KeptWarning, PlanError
from topocompress.models.loading import load_model
from topocompress.surgery.removal import apply
from topocompress.workflows.compare import compare
from topocompress.workflows.single_steps import score_groups


@pytest.fixture(scope="module")
def digits():
    loaded = load_model("digits")
    return loaded, load_data("digits", preprocessing=loaded.preprocessing, samples=80, eval_samples=100)


def run(digits, **changes):
    options = {"criteria": ["l1", "random"], "ratios": [0.25, 0.5], "samples": 40, "seeds": 2}
    return compare(*digits, **{**options, **changes})


def test_every_cell_is_there_with_the_same_widths(digits, monkeypatch):
    applied = []

    def spy(model, plan, *, example):
        smaller = apply(model, plan, example=example)
        applied.append(count_macs(smaller, example))
        return smaller

    monkeypatch.setattr("topocompress.workflows.compare.apply", spy)
    found = run(digits, criteria=["l1", "persistence+looks=2", "random"])

    assert found.criteria == ["l1", "persistence+looks=2", "random"]
    assert found.ratios == [0.25, 0.5]
    assert len(found.cells) == 12
    assert [cell.macs for cell in found.cells] == applied
    for ratio in found.ratios:
        assert len({cell.macs for cell in found.cells if cell.ratio == ratio}) == 1
    randoms = [cell.settled for cell in found.cells if cell.criterion == "random"]
    assert len(set(randoms)) > 2  # other numbers with every seed
    l1 = {cell.removed for cell in found.of("l1", 0.5)}
    assert len(l1) == 1  # the weights are the same with every seed, and so is what is left before re-estimation
    assert found.original > 0.9


def test_a_criterion_may_choose_where_to_cut_at_no_more_macs(digits):
    found = run(digits, criteria=["taylor", "taylor@global"], seeds=1)

    for ratio in found.ratios:
        (uniform,), (free,) = found.of("taylor", ratio), found.of("taylor@global", ratio)
        assert 0.5 * uniform.macs < free.macs <= uniform.macs


def test_a_criterion_that_cannot_judge_every_group_is_left_out(digits, monkeypatch):
    def partial(model, groups, criterion, *given, **named):
        scores = score_groups(model, groups, criterion, *given, **named)
        if criterion.name == "l2":
            return replace(scores, layers=dict(list(scores.layers.items())[1:]))
        return scores

    monkeypatch.setattr("topocompress.workflows.compare.score_groups", partial)
    found = run(digits, criteria=["l2", "l1"])

    assert found.criteria == ["l1"]
    assert len(found.cells) == 4
    ((name, why),) = found.left_out
    assert name == "l2"
    assert "has no scores for" in why
    with pytest.raises(CriterionError, match="has no scores for"):
        run(digits, criteria=["l2"])


def test_finished_results_are_used_again(digits, tmp_path, monkeypatch):
    first = run(digits, out=tmp_path)
    files = sorted((tmp_path / "cells").iterdir())
    assert len(files) == 8
    files[0].unlink()
    files[1].write_text("{half")
    applied = []
    monkeypatch.setattr(
        "topocompress.workflows.compare.apply", lambda *given, **named: applied.append(1) or apply(*given, **named)
    )

    with pytest.warns(KeptWarning, match="not used, and done again"):
        again = run(digits, out=tmp_path)

    assert again == first
    assert len(applied) == 2
    run(digits, out=tmp_path, samples=30)  # another question
    assert len(applied) == 10


def test_fine_tuning_is_the_same_for_all(digits):
    loaded, data = digits
    found = run(digits, criteria=["l1"], ratios=[0.5], seeds=1, finetune=1)

    assert found.cells[0].tuned is not None
    assert found.cells[0].final == found.cells[0].tuned
    with pytest.raises(DataError, match="labelled"):
        compare(loaded, replace(data, labelled=False), criteria=["l1"], ratios=[0.5], samples=9, finetune=1)


def test_a_criterion_knows_what_follows(digits, monkeypatch):
    asked = []

    def spy(model, groups, criterion, *given, **options):
        asked.append(criterion.settings()["alone"])
        return score_groups(model, groups, criterion, *given, **options)

    monkeypatch.setattr("topocompress.workflows.compare.score_groups", spy)
    names = ["persistence+looks=1", "persistence+looks=1+alone=2"]
    found = [
        run(digits, criteria=names, ratios=[0.5], samples=20, seeds=1, finetune=epochs, reconstruct=reconstruct)
        for epochs, reconstruct in ((0, False), (1, False), (0, True))
    ]

    assert asked == [0, 2, 1000, 2, 3, 2]
    assert [comparison.adapted for comparison in found] == [
        (),
        (("persistence+looks=1", "alone=1000"),),
        (("persistence+looks=1", "alone=3, rebuilt=True"), ("persistence+looks=1+alone=2", "rebuilt=True")),
    ]


def test_without_labels_agreement_is_compared(digits):
    loaded, _ = digits
    photographs = load_data(None, preprocessing=loaded.preprocessing, samples=20, eval_samples=30)

    found = run((loaded, photographs), criteria=["l1", "persistence+looks=1"], ratios=[0.25], samples=10)

    assert found.measure == "agreement"
    assert found.original == 1
    assert all(cell.removed <= cell.settled <= 1 for cell in found.cells)
    assert any(cell.removed < cell.settled for cell in found.cells)  # statistics corrected for what removal changed


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"criteria": []}, PlanError, "at least one"),
        ({"criteria": ["l11"]}, CriterionError, "unknown criterion"),
        ({"samples": 50}, DataError, "2 sets of 50"),
        ({"ratios": [1.5]}, PlanError, "between 0 and 1"),
        ({"criteria": ["l1@global"]}, PlanError, "common unit"),
    ],
)
def test_what_makes_no_sense_is_refused(digits, changes, error, message):
    with pytest.raises(error, match=message):
        run(digits, **changes)
