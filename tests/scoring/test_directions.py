"""Into which directions of its outputs a network is differentiated."""

import numpy as np
import pytest
import torch
from torch import nn

from topocompress.criteria import Persistence, Taylor
from topocompress.criteria.persistence import tree_gradient
from topocompress.criteria.registry import create
from topocompress.errors import CriterionError
from topocompress.topology.trees import spanning_tree

SQUARE = np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 1.0]])


def test_the_gradient_of_a_tree_by_hand():
    """Edges (0, 1) and (1, 2); the first joins two classes."""
    assert tree_gradient(SQUARE).tolist() == [[-1, 0], [1, -1], [0, 1]]
    assert tree_gradient(SQUARE, np.array([0, 1, 1])).tolist() == [[1, 0], [-1, -1], [0, 1]]


def test_equal_points_have_no_direction():
    assert tree_gradient(np.zeros((3, 2))).tolist() == [[0, 0]] * 3


def test_the_gradient_is_that_of_the_total_length():
    points = np.random.default_rng(0).standard_normal((30, 4))

    def length(moved):
        first, second = spanning_tree(moved).T
        return np.linalg.norm(moved[first] - moved[second], axis=1).sum()

    step = np.zeros_like(points)
    step[7, 2] = 1e-6
    slope = (length(points + step) - length(points - step)) / 2e-6
    assert tree_gradient(points)[7, 2] == pytest.approx(slope, rel=1e-5)


def test_directions_of_persistence():
    outputs = torch.tensor(SQUARE).float()

    signed = Persistence(batch=3, draws=2).directions(outputs, None)
    unsigned = Persistence(batch=3, draws=1, signed=False).directions(outputs, None)

    # predicted classes 0 (a tie goes to the first), 0, 0: nothing is counted with a minus sign
    assert signed.tolist() == [tree_gradient(SQUARE).tolist()] * 2
    assert unsigned.tolist() == signed[:1].tolist()
    apart = torch.tensor([[0.0, 1.0], [3.0, 1.0]])
    assert Persistence(draws=1).directions(apart, None)[0].tolist() == [[1, 0], [-1, 0]]
    assert Persistence(draws=1, signed=False).directions(apart, None)[0].tolist() == [[-1, 0], [1, 0]]


def test_small_batches_make_small_trees_and_draws_differ():
    points = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    pairs = Persistence(batch=2, draws=3, signed=False).directions(points, None)

    torch.testing.assert_close(pairs.norm(dim=2), torch.ones(3, 40))  # one edge per sample
    assert not torch.equal(pairs[0], pairs[1])


def test_segmentation_has_one_point_per_sample():
    outputs = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(0))

    assert Persistence().directions(outputs, None).shape == (2, 5, 3, 2, 2)


@pytest.mark.parametrize(
    "options",
    [
        {"batch": 1},
        {"draws": 0},
        {"looks": 0},
        {"looks": 1.5},
        {"alone": -1},
        {"alone": float("nan")},
        {"norm": 1.1},
        {"norm": -0.1},
    ],
)
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(CriterionError):
        Persistence(**options)


def test_reconstruction_changes_what_filters_are_judged_by_unless_that_is_said():
    assert Persistence().before_reconstruction().rebuilt
    assert Persistence(rebuilt=True).before_reconstruction().rebuilt
    asked = create("persistence+rebuilt=false")
    assert asked.before_reconstruction() is asked
    assert asked.settings() == Persistence().settings()


def test_fine_tuning_changes_a_setting_that_was_not_given():
    tuned = Persistence(looks=3, seed=5).before_tuning()

    assert tuned.settings() == {**Persistence(seed=5).settings(), "alone": 1000.0, "looks": 1}
    assert tuned.before_tuning().settings() == tuned.settings()
    assert Persistence(alone=0).before_tuning().settings() == Persistence().settings()
    assert create("persistence+alone=2.5").before_tuning().settings()["alone"] == 2.5
    taylor = Taylor()
    assert taylor.before_tuning() is taylor


def test_directions_of_taylor_are_the_gradient_of_cross_entropy():
    outputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    nn.functional.cross_entropy(outputs, labels, reduction="sum").backward()

    torch.testing.assert_close(Taylor().directions(outputs.detach(), labels)[0], outputs.grad)
