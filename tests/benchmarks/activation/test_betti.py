"""Betti numbers through the layers, and which networks they are counted of."""

import pytest

from benchmarks.activation import betti
from benchmarks.activation.betti import TRIED, area, counted, halved, points_of, totals_of, train
from benchmarks.activation.sets import TASKS
from benchmarks.common.results import Results
from topocompress.topology.layers import class_bettis


def test_betti_numbers_of_a_network_are_summed_up():
    network = [[(1, 3), (2, 2)], [(1, 1), (2, 2)], [(1, 0), (1, 0)], [(1, 0), (3, 0)], [(1, 0), (1, 0)]]
    assert totals_of(network) == [8, 6, 2, 4, 2]
    assert area(network) == pytest.approx((6 + 2 + 4) / 3 / 8)
    assert halved(network) == 4
    assert halved(network[:2]) == 2


def test_networks_that_failed_count_only_where_all_did():
    row = {"networks": ["first", "second", "third"]}
    assert counted(row, {"steps": [10.0, None, 30.0]}) == ["first", "third"]
    assert counted(row, {"steps": [None, None, None]}) == ["first", "second", "third"]


@pytest.mark.parametrize("title", ["D-I", "D-II", "D-III"])
def test_the_betti_numbers_of_a_set_are_recovered_at_the_input(title):
    task = TASKS[title]
    points, labels = points_of(task)
    dimensions = tuple(range(len(task.source.betti[0])))
    found = class_bettis(points, labels, neighbours=task.neighbours, dimensions=dimensions)
    assert tuple(found.values()) == task.source.betti


def test_networks_that_have_been_counted_are_not_trained_again(tmp_path, monkeypatch):
    trained = []

    def training(self, file):
        trained.append((self.name, file.name))
        return {"rate": 0.01, "steps": [1.0]}

    monkeypatch.setattr(betti._Networks, "train", training)
    monkeypatch.setattr(betti.Samples, "of", lambda *_: None)
    results = Results(tmp_path / "results.json")
    train(results, tmp_path, TRIED, deadline=float("inf"))
    assert len(trained) == len({file for _, file in trained}) == 3 * len(TRIED.variants)
    for done in list(results.rows):
        results.rows[done.replace("tried-networks", "tried")] = {}
    (tmp_path / "tried-D-I-frequency-4.safetensors").touch()
    del results.rows["tried/D-I/frequency 4"], results.rows["tried/D-I/frequency 6"]
    train(results, tmp_path, TRIED, deadline=float("inf"))
    assert trained[3 * len(TRIED.variants) :] == [("frequency 6", "tried-D-I-frequency-6.safetensors")]
