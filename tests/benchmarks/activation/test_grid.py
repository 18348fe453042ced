"""The grid and what its page says."""

import math

import numpy as np

from benchmarks.activation import grid, grid_page
from benchmarks.activation.grid import BASELINES, CELLS, SOURCES, cells, row
from benchmarks.activation.zoo import OURS
from benchmarks.common.results import Results


def test_the_sample_holds_every_value_and_no_cell_twice():
    every = cells()
    assert len({each.name for each in every}) == len(every) == CELLS + 3
    assert {each.source for each in every} == set(SOURCES)
    assert {each.depth for each in every} == {2, 4, 6, 10}
    assert [(each.source, each.depth, each.width) for each in every[:3]] == [
        ("D-I", 6, 25),
        ("D-II", 6, 25),
        ("D-III", 6, 25),
    ]
    assert cells() == every


def test_training_stops_when_the_best_rate_is_known():
    hits = np.array([[10.0, 20.0, math.inf], [math.inf, 25.0, math.inf]])
    assert not grid._settled(hits, 25)
    assert grid._settled(hits, 30)  # half as long again as the median
    hits[0, 2] = 25.0
    assert grid._settled(hits, 25)
    assert not grid._settled(np.full((2, 3), math.inf), 600)


def test_a_cell_is_measured_once_and_ours_arrives(tmp_path, monkeypatch):
    cell = next(each for each in cells() if (each.source, each.depth, each.norm) == ("D-I", 6, "none"))
    monkeypatch.setattr(grid, "cells", lambda: [cell])
    monkeypatch.setattr(grid, "TRAINING", 5_000)
    results = Results(tmp_path / "grid.json")
    grid.study(results, names=[OURS])
    found = results.rows[row(cell, OURS)]
    assert found["rate"] in grid.RATES[cell.optimiser]
    assert grid.median_steps(found) <= 100
    monkeypatch.setattr(grid, "measured", None)
    grid.study(results, names=[OURS])


def test_others_are_left_out_where_relu_and_gelu_do_not_arrive_and_else_stop_at_the_best(tmp_path):
    cell = cells()[5]
    results = Results(tmp_path / "grid.json")
    results.rows = {row(cell, name): {"steps": [None, None, 50.0]} for name in ("ReLU", "GELU")}
    assert grid._spared(results, cell, "tanh")
    assert not grid._spared(results, cell, "GELU")
    results.rows[row(cell, "GELU")] = {"steps": [100.0, 50.0, None]}
    assert not grid._spared(results, cell, "tanh")
    assert grid._best_before(results, cell, "tanh") == [100]
    assert grid._best_before(results, cell, "GELU") == []


def made_up(own, **steps):
    def entry(value):
        return {"steps": [value, value, None], "rate": 0.1}

    found = {}
    for cell in cells()[:10]:
        found |= {row(cell, name): entry(steps.get(name)) for name in BASELINES}
        found[row(cell, OURS)] = entry(own)
    return found


def test_the_page_gives_ratios_and_where_ours_is_behind():
    text = grid_page.text(made_up(50.0, ReLU=300.0, GELU=100.0))
    assert "| 7 of 120 cells measured, 7 of them learned by any | |" in text
    assert "| steps of ReLU ÷ ours, median | **6.0×** |" in text
    assert "÷ ours, median (7 cells) | **2.0×** |" in text
    assert "| ours more than 10 % behind that best | 0 of 7 cells (0 %) |" in text
    assert "| D-III | 50 | 300 | 100 | — | — | — |" in text
    assert "Where ours" not in text
    text = grid_page.text(made_up(120.0, ReLU=300.0, GELU=100.0))
    assert "| 7 of 7 cells (100 %) |" in text
    assert "Where ours is more than 10 % behind:" in text
    assert "| ours does not arrive where ReLU or GELU does | 7 cells |" in grid_page.text(made_up(None, ReLU=300.0))
    assert grid_page.in_short(made_up(50.0, ReLU=300.0, GELU=100.0)).endswith("6.0×, of the best of four ÷ ours 2.0×")
    assert grid_page.text({}) == "Nothing measured yet.\n"


def test_what_nobody_else_learns_is_a_lower_bound():
    rows = made_up(50.0)
    for cell in cells()[:10]:
        for name in BASELINES[2:]:
            del rows[row(cell, name)]
    assert "| ours arrives where neither ReLU nor GELU does | 7 cells |" in grid_page.text(
        {**rows, **{key: {**each, "steps": [60.0] * 3} for key, each in _one(rows).items()}}
    )


def test_relu_has_four_times_as_long_where_it_has_not_arrived(tmp_path, monkeypatch):
    cell = cells()[5]
    monkeypatch.setattr(grid, "cells", lambda: [cell])
    asked = []

    def measured(_cell, name, _samples, steps, **options):
        asked.append((name, steps, options))
        return {"steps": [None, 700.0, 800.0], "rate": 0.1, "ran": steps}

    monkeypatch.setattr(grid, "measured", measured)
    results = Results(tmp_path / "grid.json")
    results.rows = {row(cell, name): {"steps": [None] * 3, "rate": 0.1, "ran": 300} for name in BASELINES}
    results.rows[row(cell, OURS)] = {"steps": [250.0] * 3, "rate": 0.1, "ran": 300}
    for _ in range(2):
        grid.study(results)
    assert asked == [("ReLU", 1000, {"patient": True})]
    (found,) = grid_page.found(results.rows)
    assert found.relu == 3.2
    results.rows[row(cell, grid.LATER)] = {"steps": [None] * 3, "ran": 900}
    assert grid_page.found(results.rows)[0].relu == 3.6


def _one(rows):
    cell = cells()[11]
    return {row(cell, name): next(iter(rows.values())) for name in (OURS, *BASELINES)}
