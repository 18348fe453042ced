"""Criteria that read weights or norms alone, by hand."""

import math

import pytest
import torch
from torch import nn

from topocompress import score
from topocompress.criteria import FPGM, L1, L2, BNScale
from topocompress.errors import CriterionError, DataError
from topocompress.scoring.dispatch import score_layers

CORNERS = torch.tensor([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]])


def test_l1_and_l2():
    weight = torch.tensor([[3.0, -4.0], [0.0, 0.0]]).reshape(2, 2, 1, 1)

    assert L1().score(weight).tolist() == [7, 0]
    assert L2().score(weight).tolist() == [5, 0]


def test_fpgm_adds_up_the_distances_to_the_others():
    assert FPGM().score(CORNERS.reshape(3, 2, 1, 1)).tolist() == pytest.approx([3 + 5, 3 + 4, 5 + 4])


def test_fpgm_of_a_single_filter_is_zero():
    assert FPGM().score(torch.ones(1, 2, 1, 1)).tolist() == [0]


class Normed(nn.Module):
    """A layer whose norm is a module, one without norm, and one whose norm stands before it in the module list."""

    def __init__(self) -> None:
        super().__init__()
        self.late_norm = nn.BatchNorm2d(2)
        self.first, self.norm = nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3)
        self.bare, self.late = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1)
        self.head = nn.Linear(2, 2)
        with torch.no_grad():
            self.norm.weight.copy_(torch.tensor([0.5, -2.0, 0.0]))
            self.late_norm.weight.copy_(torch.tensor([3.0, 1.0]))

    def forward(self, x):
        x = torch.relu(self.bare(torch.relu(self.norm(self.first(x)))))
        return self.head(torch.relu(self.late_norm(self.late(x))).mean((2, 3)))


def test_bn_scale_reads_the_norm_that_runs_behind_the_layer():
    found = score_layers(Normed(), ["first", "bare", "late"], BNScale(), example=torch.zeros(1, 1, 2, 2))

    assert {name: layer.values.tolist() for name, layer in found.layers.items()} == {
        "first": [0.5, 2.0, 0.0],
        "late": [3.0, 1.0],
    }
    assert found.samples == 0


def test_bn_scale_needs_an_example_and_no_data():
    model = Normed()

    assert set(score(model, example=torch.zeros(1, 1, 2, 2), criterion="bn-scale").layers) == {"first", "late"}
    with pytest.raises(DataError, match="example"):
        score_layers(model, ["first"], BNScale())


def test_bn_scale_says_when_there_is_no_norm():
    with pytest.raises(CriterionError, match="no norm"):
        score_layers(Normed(), ["bare"], BNScale(), [(torch.zeros(2, 1, 2, 2), torch.zeros(2))])


def test_a_scale_that_is_not_a_number_is_refused():
    model = Normed()
    with torch.no_grad():
        model.norm.weight[0] = math.nan

    with pytest.raises(Exception, match="first: NaN"):
        score_layers(model, ["first"], BNScale(), example=torch.zeros(1, 1, 2, 2))
