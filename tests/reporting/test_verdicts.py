"""The sentence at the end of a comparison tells the truth."""

import json

import pytest
from PIL import Image

from topocompress.reporting.plots import plot_comparison
from topocompress.reporting.verdicts import judged, recommendation, rows, spread, write
from topocompress.types import Cell, Comparison


def comparison(finetune=0, measure="accuracy", ratios=(0.5,), **values):
    """Criterion → what is left per seed, at one ratio, or at each ratio."""
    cells = [
        Cell(
            criterion=name.replace("_", "-"),
            ratio=ratio,
            seed=seed,
            macs=50,
            removed=left / 2,
            settled=left,
            tuned=left if finetune else None,
        )
        for name, given in values.items()
        for ratio, each in zip(ratios, given if len(ratios) > 1 else [given], strict=True)
        for seed, left in enumerate(each)
    ]
    return Comparison(
        model="m",
        data="d",
        measure=measure,
        original=0.9,
        macs=100,
        samples=10,
        finetune=finetune,
        cells=tuple(cells),
    )


def test_a_clear_winner_is_named_with_its_lead_over_each():
    found = recommendation(comparison(persistence=[0.8, 0.81, 0.79], l1=[0.7, 0.71, 0.7], random=[0.5, 0.6, 0.4]))

    assert found == "At 0.5 use persistence: ahead of l1 (by 9.7 points) and random (by 30.0 points)."


def test_a_spread_at_one_ratio_does_not_drown_a_lead_at_another():
    # 99.3 ± 0.2 against 93.9 ± 0.4, beside a ratio at which random scatters by 10 points
    found = recommendation(
        comparison(
            ratios=(0.3, 0.5),
            l1=[[0.991, 0.993, 0.995], [0.6, 0.6, 0.6]],
            random=[[0.935, 0.939, 0.943], [0.7, 0.5, 0.57]],
        )
    )

    assert found == (
        "At 0.3 use l1: ahead of random (by 5.4 points); at 0.5 it does not matter: l1 and random are at most "
        "1.0 points apart, within the error."
    )


def test_ratios_with_the_same_answer_stand_together():
    both = {"l1": [[0.9, 0.9], [0.8, 0.8]], "random": [[0.85, 0.85], [0.6, 0.6]]}
    assert recommendation(comparison(ratios=(0.3, 0.5), **both)) == (
        "At every ratio use l1: ahead of random (by 5.0 to 20.0 points)."
    )
    three = {name: [*values, [0.5, 0.5]] for name, values in both.items()}
    assert recommendation(comparison(ratios=(0.3, 0.5, 0.7), **three)).startswith("At 0.3 and 0.5 use l1: ahead of")


def test_a_tie_names_all_who_share_it():
    found = recommendation(comparison(l1=[0.7, 0.72, 0.7], taylor=[0.71, 0.69, 0.73], random=[0.2, 0.3, 0.2]))

    assert found == "At 0.5 use taylor or l1, which cannot be told apart: all ahead of random (by 47.7 points)."


@pytest.mark.parametrize(
    ("random", "said"),
    [
        ([0.9, 0.9, 0.9], "random is ahead of betti (by 19.7 points) and l1 (by 40.0 points)"),
        ([0.7, 0.71, 0.69], "betti cannot be told from random, which is ahead of l1 (by 20.3 points)"),
    ],
    ids=["better", "as good"],
)
def test_random_is_not_talked_away(random, said):
    found = recommendation(comparison(betti=[0.7, 0.71, 0.7], l1=[0.5, 0.5, 0.5], random=random))

    assert found == f"At 0.5 no criterion beats chance: {said}."


def test_a_gap_counts_from_the_limit_of_students_t_and_from_a_fifth_of_a_point():
    def leaders(**values):
        (found,) = judged(comparison(**values))
        return found.leaders

    # Gaps 0.1, 0.2, 0.3: mean 0.2, standard error 0.1 / √3 = 0.0577, of which t(0.95, 2) = 2.920 make 0.1686.
    assert leaders(a=[0.9, 0.9, 0.9], b=[0.8, 0.7, 0.6]) == ("a",)
    # Gaps 0.1, 0.2, 0.4: mean 0.2333, standard error 0.1528 / √3 = 0.0882, which make 0.2575.
    assert leaders(a=[0.9, 0.9, 0.9], b=[0.8, 0.7, 0.5]) == ("a", "b")
    assert leaders(a=[0.9, 0.5, 0.7], b=[0.8, 0.4, 0.6]) == ("a",)  # the same in every seed
    assert leaders(a=[0.7, 0.7, 0.7], b=[0.699, 0.699, 0.699]) == ("a", "b")  # and too small


def test_the_users_metric_is_judged_on_its_own_scale():
    metric = {"measure": "metric", "a": [0.03, 0.03], "random": [0.0285, 0.0285]}
    assert (
        recommendation(comparison(**metric))
        == "At 0.5 it does not matter: a and random are at most 0.0015 apart, within the error."
    )
    metric["random"] = [0.028, 0.028]  # 0.2 % of the original's 0.9 is 0.0018
    assert recommendation(comparison(**metric)) == "At 0.5 use a: ahead of random (by 0.002)."


def test_chance_is_asked_for_where_it_was_not_measured():
    assert recommendation(comparison(l1=[0.9, 0.9], betti=[0.5, 0.5])) == (
        "At 0.5 use l1: ahead of betti (by 40.0 points); add random to --criteria to see what chance leaves."
    )


def test_with_one_seed_nobody_leads():
    found = recommendation(
        comparison(ratios=(0.3, 0.5), l1=[[0.9], [0.7]], betti=[[0.9], [0.6]], random=[[0.5], [0.1]])
    )

    assert found == (
        "One seed has no error bars: at 0.3 l1 and betti 90.0 %, random 50.0 %; at 0.5 l1 70.0 %, betti 60.0 %, random "
        "10.0 %; use --seeds 3 to tell them apart."
    )
    assert judged(comparison(l1=[0.9], random=[0.1]))[0].leaders == ("l1", "random")


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
