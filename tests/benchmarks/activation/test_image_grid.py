"""Small CNNs on images of half the size."""

import pytest
import torch
from torch import nn

from benchmarks.activation import image_grid
from benchmarks.activation.image_grid import ACTIVATIONS, KINDS, SEEDS, STEPS, Cell, cells, network, row, steps_to, text
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


def test_a_cell_is_trained(monkeypatch):
    monkeypatch.setattr(image_grid, "RATES", (1e-2, 1e-5))
    cell = Cell(title="Fashion-MNIST", kind="plain", width=4, norm=False)
    found = image_grid.measured(cell, OURS, pictures(count=400), 60)
    assert found["rate"] == 1e-2
    assert len(found["accuracy"]) == len(found["final"]) == len(SEEDS)
    assert min(found["final"]) > 0.9


def test_the_page_compares_ends_and_steps():
    tests = moments(STEPS)

    def entry(first, end):
        accuracy = [first] * 2 + [end] * (len(tests) - 2)
        return {"rate": 0.01, "accuracy": [accuracy] * 2, "final": [end] * 2}

    cell = next(cell for cell in cells() if not cell.norm)
    rows = {
        row(cell, OURS): entry(0.7, 0.71),
        row(cell, "ReLU"): entry(0.5, 0.7),
        row(cell, "GELU"): entry(0.5, 0.72),
    }
    times = tests[2] / tests[0]
    assert steps_to(rows[row(cell, "ReLU")]["accuracy"], 0.7) == tests[2]
    assert f"| {cell.name} | 71.0 | 70.0 | 72.0 | {times:.1f}× |" in text(rows)
    assert "Without BatchNorm: " in text(rows)
    assert "final accuracy -1.0 points against the better of the others (lowest -1.0)" in text(rows)
    assert text({}) == "Nothing measured yet.\n"
