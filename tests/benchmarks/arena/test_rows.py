"""Which rows the study has."""

from benchmarks.arena.rows import (
    BASELINES,
    EPOCHS,
    OURS,
    aimed,
    cells,
    heavy,
    known,
    last,
    light,
    name_of,
    scored_first,
)
from benchmarks.arena.scores import scored_as
from benchmarks.arena.setting import NETWORKS
from benchmarks.arena.work import Worker


def test_every_row_has_a_name_of_its_own_and_the_bar_comes_first():
    rows = [*heavy(), *light("cuda"), *last()]
    assert len({name_of(row) for row in rows}) == len(rows)
    for network in NETWORKS:
        assert set(cells(network, (OURS, *BASELINES), EPOCHS)) <= set(heavy())
    assert heavy()[:90] == list(cells("resnet20", (OURS, *BASELINES), EPOCHS))
    assert name_of(heavy()[0]) == "cell/resnet20/persistence/0.25/0/2"


def test_a_run_can_be_aimed():
    found = aimed(["l1", "fashion/persistence+alone=2", "l1"], ["resnet20", "fashion"], 0)

    assert len(found) == len(set(found)) == 27
    assert found[0] == ("cell", "resnet20", "l1", "0.5", "0", "0")  # what removes most comes first
    assert {row[1:3] for row in found} == {("resnet20", "l1"), ("fashion", "l1"), ("fashion", "persistence+alone=2")}
    assert not aimed(["resnet56/l1"], ["fashion"], 2)


def test_scores_that_are_missing_are_made_before_cells_ask_for_them(setting):
    asked = [*cells("resnet20", ("taylor", "l2@global", "l2"), 0), ("oracle", "resnet20", "layer1.0.conv1")]
    missing = scored_first(setting, asked)

    assert ("scores", "resnet20", "taylor", "0") in missing
    assert ("scores", "resnet20", "persistence+looks=1+signed=false", "1") in missing
    assert len(missing) == len(set(missing)) == 9
    assert Worker(setting, {}).measured(("scores", "resnet20", "l2", "2")) == 9
    assert set(missing) - set(scored_first(setting, asked)) == {("scores", "resnet20", "l2", "2")}


def test_a_cell_with_fine_tuning_says_what_one_without_would():
    there = {"cell/resnet20/l1/0.5/0/2", "cell/resnet20/l2/0.5/0/0", "original/resnet20"}

    assert known(("cell", "resnet20", "l1", "0.5", "0", "0"), there)
    assert known(("original", "resnet20"), there)
    assert not known(("cell", "resnet20", "l2", "0.5", "0", "2"), there)
    assert not known(("original", "resnet56"), there)


def test_where_fine_tuning_changes_a_criterion_a_cell_with_it_says_nothing_of_one_without():
    row = ("cell", "resnet20", OURS, "0.5", "0", "0")

    assert not known(row, {"cell/resnet20/persistence/0.5/0/2"})
    assert known(
        ("cell", "resnet20", "persistence+alone=3", "0.5", "0", "0"), {"cell/resnet20/persistence+alone=3/0.5/0/2"}
    )
    assert scored_as("persistence@global", 0) == "persistence"
    assert scored_as("persistence@global", 2) == "persistence+alone=1000+looks=1"
    assert scored_as("l1", 2) == "l1"
    assert scored_as("from a package that is not here", 2) == "from a package that is not here"
