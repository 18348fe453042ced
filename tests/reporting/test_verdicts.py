"""The sentence at the end of a comparison tells the truth."""

import json

import pytest
from PIL import Image

from topocompress.reporting.plots import plot_comparison
from topocompress.reporting.verdicts import recommendation, rows, spread, write
from topocompress.types import Cell, Comparison


def comparison(finetune=0, **values):
    """Criterion → what is left per seed, at one ratio."""
    cells = [
        Cell(
            criterion=name.replace("_", "-"),
            ratio=0.5,
            seed=seed,
            macs=50,
            removed=left / 2,
            settled=left,
            tuned=left if finetune else None,
        )
        for name, given in values.items()
        for seed, left in enumerate(given)
    ]
    return Comparison(
        model="m",
        data="d",
        measure="accuracy",
        original=0.9,
        macs=100,
        samples=10,
        finetune=finetune,
        cells=tuple(cells),
    )


def test_a_clear_winner_is_named_with_its_lead():
    found = recommendation(comparison(persistence=[0.8, 0.81, 0.79], l1=[0.7, 0.71, 0.7], random=[0.5, 0.6, 0.4]))

    assert found == (
        "Use persistence on this model: it leaves 80.0 %, 9.7 points more than l1, the next best "
        "(accuracy averaged over the ratios, 3 seeds)."
    )


def test_a_tie_names_all_who_share_it():
    found = recommendation(comparison(l1=[0.7, 0.72, 0.7], taylor=[0.71, 0.69, 0.73], random=[0.2, 0.3, 0.2]))

    assert found.startswith("Use taylor on this model, or l1, which cannot be told from it")
    assert "taylor 71.0 %, l1 70.7 %" in found


@pytest.mark.parametrize("random", [[0.9, 0.9, 0.9], [0.7, 0.71, 0.69]], ids=["better", "as good"])
def test_random_is_not_talked_away(random):
    found = recommendation(comparison(betti=[0.7, 0.71, 0.7], random=random))

    assert found.startswith("No criterion is worth its cost on this model: random pruning")


def test_a_gap_that_varies_more_than_it_is_large_does_not_count():
    assert "cannot be told" in recommendation(comparison(a=[0.9, 0.5, 0.7], b=[0.5, 0.8, 0.7]))
    assert "points more" in recommendation(comparison(a=[0.9, 0.5, 0.7], b=[0.8, 0.4, 0.6]))  # the same in every seed
    assert "cannot be told" in recommendation(comparison(a=[0.7, 0.7, 0.7], b=[0.699, 0.699, 0.699]))  # and too small


def test_one_seed_has_no_error_bars():
    assert "--seeds 3" in recommendation(comparison(l1=[0.7], random=[0.2]))


def test_one_criterion_alone():
    assert "add random" in recommendation(comparison(l1=[0.7, 0.6]))


def test_rows_are_sorted_and_averaged():
    found = rows(comparison(l1=[0.6, 0.8], taylor=[0.9, 0.9]))

    assert [row["criterion"] for row in found] == ["taylor", "l1"]
    assert found[1]["settled"] == pytest.approx((0.7, 0.1414), abs=1e-3)
    assert found[1]["removed"][0] == pytest.approx(0.35)
    assert found[0]["macs"] == 0.5
    assert "tuned" not in found[0]
    assert rows(comparison(finetune=2, l1=[0.6]))[0]["tuned"] == (0.6, 0.0)


def test_spread_of_one_value():
    assert spread([0.25]) == (0.25, 0.0)


def test_files(tmp_path):
    shown = comparison(l1=[0.6, 0.8], taylor=[0.9, 0.9])
    write(tmp_path / "compare.json", shown)
    plot_comparison(tmp_path / "compare.png", shown)

    content = json.loads((tmp_path / "compare.json").read_text(encoding="utf-8"))
    assert len(content["cells"]) == 4
    assert content["table"][0]["settled"] == {"mean": 0.9, "std": 0.0}
    assert content["recommendation"] == recommendation(shown)
    with Image.open(tmp_path / "compare.png") as picture:
        assert picture.size[0] > 900
