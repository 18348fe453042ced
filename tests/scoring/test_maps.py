"""Criteria of maps, by hand, and the pass that feeds them."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.scoring_nets import LAYERS, Filters, network, noise
from topocompress.criteria import CHIP, HRank, MapCriterion
from topocompress.errors import CriterionError, DataError, ModelError
from topocompress.scoring.dispatch import score_layers


def test_hrank_is_the_rank_of_each_map():
    maps = torch.zeros(2, 2, 2, 2)
    maps[0, 0] = torch.tensor([[1.0, 2.0], [2.0, 4.0]])  # rank 1
    maps[0, 1] = torch.eye(2)
    maps[1, 1] = torch.tensor([[0.0, 3.0], [0.0, 0.0]])

    assert HRank().score(maps).tolist() == [[1, 2], [0, 1]]


def test_chip_loses_all_of_an_orthogonal_row_and_little_of_a_double():
    """Rows 3·e1 and 4·e2: the nuclear norm is 7, without the first 4, without the second 3."""
    orthogonal = torch.tensor([[3.0, 0.0], [0.0, 4.0]]).reshape(1, 2, 2, 1)
    assert CHIP().score(orthogonal)[0].tolist() == pytest.approx([3, 4])

    double = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).reshape(1, 3, 2, 1)
    assert CHIP().score(double)[0].tolist() == pytest.approx([2**0.5 - 1, 2**0.5 - 1, 1])


@pytest.mark.parametrize("shape", [(2, 3, 4, 2), (2, 7, 1, 3)], ids=["more features", "more filters"])
def test_chip_is_the_nuclear_norm_with_a_row_less(shape):
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(0))

    for sample, found in zip(maps.flatten(2).double(), CHIP().score(maps), strict=True):
        whole = torch.linalg.matrix_norm(sample, "nuc")
        rows = range(len(sample))
        less = [torch.linalg.matrix_norm(sample[[r for r in rows if r != row]], "nuc") for row in rows]
        torch.testing.assert_close(found, whole - torch.stack(less))


class Largest(MapCriterion):
    """Mean of the maps' largest values (higher: keep)."""

    name, higher = "largest", "keep"

    def __init__(self, samples=None) -> None:
        self.most_samples = samples

    def score(self, maps):
        return maps.amax(dim=(2, 3))


def images(*values):
    return torch.tensor(values).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2)


def test_the_score_is_the_mean_over_all_samples_whatever_the_batches():
    model = Filters([1.0, -2.0], [0.0, 1.0], nn.ReLU())
    batches = [(images(1.0, 3.0), torch.zeros(2)), (images(-1.0), torch.zeros(1))]

    found = score_layers(model, ["conv"], Largest(), batches)

    assert found.layers["conv"].values.tolist() == pytest.approx([4 / 3, 1])
    assert found.samples == 3
    few = score_layers(model, ["conv"], Largest(samples=2), batches)
    assert few.layers["conv"].values.tolist() == [2, 0]
    assert few.samples == 2


def test_dead_filters_are_found():
    model = Filters([0.0, 1.0, -1.0], [2.0, 0.0, 0.0], nn.ReLU())

    found = score_layers(model, ["conv"], Largest(), [(images(1.0, 3.0), torch.zeros(2))])

    assert found.layers["conv"].dead.tolist() == [True, False, True]


def test_layers_come_in_the_order_in_which_they_run():
    found = score_layers(network(), LAYERS[::-1], Largest(), noise())

    assert tuple(found.layers) == LAYERS


class Wrong(Largest):
    """Wrong (higher: keep)."""

    def __init__(self, what) -> None:
        super().__init__()
        self.what = what

    def score(self, maps):
        good = super().score(maps)
        return {"flat": good[0], "nan": good * float("nan"), "few": good[:, :-1], "rows": good[:-1]}[self.what]


@pytest.mark.parametrize("what", ["flat", "nan", "few", "rows"])
def test_scores_of_another_shape_or_not_finite_are_refused(what):
    with pytest.raises(CriterionError, match="returned"):
        score_layers(network(), LAYERS, Wrong(what), noise())


def test_bad_samples_and_bad_maps_are_refused():
    with pytest.raises(DataError, match="NaN or infinity among input samples"):
        score_layers(network(), LAYERS, Largest(), [(torch.full((2, 2, 7, 7), np.nan), torch.zeros(2))])
    with pytest.raises(DataError, match="no calibration samples"):
        score_layers(network(), LAYERS, Largest(), [])
    with pytest.raises(DataError, match="needs calibration data"):
        score_layers(network(), LAYERS, Largest())
    with pytest.raises(ModelError, match="conv: NaN or infinity in its maps"):
        score_layers(Filters([np.inf]), ["conv"], Largest(), [(images(1.0, 0.0), torch.zeros(2))])
