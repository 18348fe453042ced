"""The table and the line of the study on reconstruction."""

import pytest

from benchmarks.reconstruction.summary import means, summary, table


def row(removed, settled, repaired):
    return {"accuracy": removed, "accuracy_recalibrated": settled, "accuracy_repaired": repaired}


ROWS = {
    "cost resnet18": {"forward passes": 4.25},
    "machine": {},
    "net l1 0 0.25": row(0.5, 0.6, 0.8),
    "net l1 0 0.5": row(0.1, 0.2, 0.6),
    "net l1 1 0.5": row(0.1, 0.4, 0.7),
    "net random 0 0.5": row(0.1, 0.2, 0.3),
}


def test_means_are_over_the_sets_of_images():
    assert means(ROWS)["net", "l1", 0.5] == pytest.approx((10.0, 30.0, 65.0))
    assert set(means(ROWS)) == {("net", "l1", 0.25), ("net", "l1", 0.5), ("net", "random", 0.5)}


def test_the_table_has_a_row_a_criterion_and_a_column_a_ratio():
    assert table(ROWS).splitlines() == [
        "| net | 25 % | 50 % |",
        "|---|---:|---:|",
        "| `l1` | 60.0 → 80.0 | 30.0 → 65.0 |",
        "| `random` |  | 20.0 → 30.0 |",
        "",
        "Cost, in bare forward passes over the samples: resnet18 4.2.",
    ]


def test_the_line_has_the_best_criterion():
    assert summary(ROWS) == "net at 50 %: 30.0 → 65.0 % (`l1`)"
    assert summary({}) == ""
