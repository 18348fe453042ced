"""Small CNNs on images of half the size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.activation import image_grid
from benchmarks.activation.image_grid import (
    ACTIVATIONS,
    KINDS,
    MORE,
    SEEDS,
    STEPS,
    Cell,
    cells,
    further,
    network,
    row,
    steps_to,
    text,
)
from benchmarks.activation.images import moments
from benchmarks.activation.zoo import OURS
from tests.benchmarks.activation.made_up import normal, pictures
from topocompress import TopologicalActivation


def test_every_cell_is_there_once():
    assert len({cell.name for cell in cells()}) == len(cells()) == 32


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_network_has_ours_everywhere(kind, norm):
    model = network(Cell(title="CIFAR-10", kind=kind, width=4, norm=norm), ACTIVATIONS[OURS], 3, seed=0)
    assert model(normal(2, 3, 16, 16)).shape == (2, 10)
    ours = [module for module in model.modules() if isinstance(module, TopologicalActivation)]
    assert len(ours) >= 4
    assert all(module.fit[0] > 0 for module in ours)
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == norm
    again = network(Cell(title="CIFAR-10", kind=kind, width=4, norm=norm), ACTIVATIONS[OURS], 3, seed=0)
    assert torch.equal(next(again.parameters()), next(model.parameters()))


def test_a_cell_is_trained_at_rates_on_to_the_best(monkeypatch):
    monkeypatch.setattr(image_grid, "RATES", (1e-4, 3e-4))
    cell = Cell(title="Fashion-MNIST", kind="plain", width=4, norm=False)
    found = image_grid.measured(cell, OURS, pictures(count=400), 60)
    assert 3e-4 < found["rate"] < 1e-1
    assert len(found["accuracy"]) == len(found["final"]) == len(SEEDS)
    assert min(found["final"]) > 0.9


def test_a_best_rate_at_the_edge_calls_for_the_next():
    assert further({1e-3: 0.5, 3e-3: 0.6, 1e-2: 0.5}) == []
    assert further({1e-3: 0.5, 3e-3: 0.6, 1e-2: 0.7}) == [3e-2]
    assert further({1e-3: 0.7, 3e-3: 0.6, 1e-2: 0.5}) == [3e-4]
    assert further({3e-2: 0.5, 1e-1: 0.6}) == []  # none beyond


def test_more_seeds_are_others_and_end_on_all_images(monkeypatch):
    monkeypatch.setattr(image_grid, "TRACKED", 7)
    cell = Cell(title="Fashion-MNIST", kind="plain", width=4, norm=True)
    images = pictures(count=400)
    found = image_grid.repeated(cell, "ReLU", images, 60, 1e-4)
    assert not set(SEEDS) & set(MORE)
    assert np.shape(found["accuracy"]) == (len(MORE), len(moments(60)))
    tracked, whole = (np.multiply(found[key], count) for key, count in (("accuracy", 7), ("final", 3 * 60)))
    assert np.allclose(tracked, tracked.round(), atol=0.01)
    assert np.allclose(whole, whole.round(), atol=0.01)
    assert not np.allclose(np.mean(found["accuracy"], 1), found["final"], atol=0.01)


@pytest.mark.parametrize("norm", [False, True])
def test_cells_with_batchnorm_have_more_seeds(norm, monkeypatch):
    cell = Cell(title="Fashion-MNIST", kind="plain", width=4, norm=norm)
    monkeypatch.setattr(image_grid, "cells", lambda: [cell])
    monkeypatch.setattr(image_grid, "_halved", lambda *_: None)
    monkeypatch.setattr(image_grid, "measured", lambda *_: entry(0.5, 0.5, 0.6, 0.6))
    monkeypatch.setattr(image_grid, "repeated", lambda *given: {**entry(0.5, 0.5, 0.7, 0.7), "rate": given[-1]})
    kept = Kept()
    image_grid.study(kept, {"fashion": Path(), "cifar": None})
    assert set(kept.rows) == {row(cell, name, more=more) for name in ACTIVATIONS for more in {False, norm}}
    assert {found["rate"] for found in kept.rows.values()} == {0.01}
    assert f"| {cell.name} | 2 | {' | '.join(['70.0' if norm else '60.0'] * 3)} | +0.0 ± 0.0 | 1.0× |" in text(
        kept.rows
    )


class Kept:
    def __init__(self):
        self.rows = {}

    def once(self, name, measure):
        return self.rows.setdefault(name, measure())


def entry(first, end, *finals):
    accuracy = [first] * 2 + [end] * (len(moments(STEPS)) - 2)
    return {"rate": 0.01, "accuracy": [accuracy] * 2, "final": finals}


def test_the_page_compares_ends_and_steps():
    tests = moments(STEPS)
    cell = next(cell for cell in cells() if not cell.norm)
    rows = {
        row(cell, OURS): entry(0.7, 0.71, 0.70, 0.72),
        row(cell, "ReLU"): entry(0.5, 0.7, 0.70, 0.70),
        row(cell, "GELU"): entry(0.5, 0.72, 0.73, 0.71),
    }
    times = tests[2] / tests[0]
    assert steps_to(rows[row(cell, "ReLU")]["accuracy"], 0.7) == tests[2]
    # Ahead by -3 and +1 points: their mean is -1, its standard error 2√2 / √2.
    assert f"| {cell.name} | 2 | 71.0 | 70.0 | 72.0 | -1.0 ± 2.0 | {times:.1f}× |" in text(rows)
    assert "Without BatchNorm: " in text(rows)
    assert "final accuracy -1.0 points against the better of the others (lowest -1.0), -1.0 against GELU" in text(rows)
    assert text({}) == "Nothing measured yet.\n"
