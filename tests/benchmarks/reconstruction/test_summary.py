"""The table and the line of the study on reconstruction."""

import pytest

from benchmarks.reconstruction.summary import means, summary, table


def row(repaired, settled=None):
    return {"accuracy_repaired": repaired} | ({} if settled is None else {"accuracy_recalibrated": settled})


ROWS = {
    "cost resnet18": {"forward passes": 4.25, "samples": 100},
    "machine": {},
    "original net": {"accuracy": 0.91, "macs": 5},
    "net l1 0 0.25": row(0.8, 0.6),
    "net l1 0 0.5": row(0.6, 0.2),
    "net l1 1 0.5": row(0.7),
    "net random 0 0.5": row(0.3, 0.2),
    "net l1 0 0.5 blocks:20": {"accuracy_distilled": 0.75},
    "net l1 0 0.5 tuned:2": {"accuracy_tuned": 0.85, "precision": "no"},
    "pipeline net GroupTaylor 0 0.5": {"accuracy_recalibrated": 0.4, "widths": {}},
}


def test_means_are_over_the_sets_of_images():
    assert means(ROWS)["net", "`l1`", 0.5] == pytest.approx({"settled": 20.0, "left": 65.0})
    assert len(means(ROWS)) == 6


def test_the_table_has_a_row_a_criterion_and_a_column_a_ratio():
    assert table(ROWS).splitlines() == [
        "| net, 91.0 before | 25 % | 50 % |",
        "|---|---:|---:|",
        "| `l1` | 60.0 → 80.0 | 20.0 → 65.0 |",
        "| `random` |  | 20.0 → 30.0 |",
        "| `l1`, blocks for 20 epochs |  | 75.0 |",
        "| `l1`, tuned for 2 epochs |  | 85.0 |",
        "| Torch-Pruning, GroupTaylor |  | 40.0 |",
        "",
        "Cost, in bare forward passes over the samples: resnet18 4.2 (fitted to 100 of them).",
    ]


def test_the_line_has_the_best_criterion():
    assert summary(ROWS) == "net at 50 %: 20.0 → 65.0 % (`l1`)"
    assert summary({}) == ""
