import numpy as np
import pytest
import torch
from torch import nn

import topocompress
from topocompress.activation import point_sets
from topocompress.errors import TopologyError
from topocompress.topology import layers


def circles():
    """A circle of class 0 and two lines of class 1."""
    angles = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1) * 3
    line = np.linspace(0, 1, 60)[:, None] * [1.0, 2.0]
    points = np.concatenate([ring, line, line + 20]).astype(np.float32)
    return points, np.repeat((0, 1), 120)


def test_each_class_has_its_own_numbers():
    points, labels = circles()
    assert layers.class_bettis(points, labels, neighbours=4) == {0: (1, 1), 1: (2, 0)}


def folding():
    """Keeps the points, then their first coordinate's distance from 0, then nothing."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
        model[0].bias.fill_(9.0)  # the ring and the lines are all above 0
        model[2].weight.copy_(torch.tensor([[1.0, 0.0]]))
        model[2].bias.fill_(0.0)
    return model


def test_numbers_fall_where_a_layer_glues():
    points, labels = circles()
    found = layers.layer_bettis(folding(), torch.from_numpy(points), labels, neighbours=4)
    assert [each.layer for each in found] == ["input", "0", "2"]
    assert [each.betti[0] for each in found] == [(1, 1), (1, 1), (1, 0)]  # a circle onto a line
    assert found[0].betti[1] == found[1].betti[1] == (2, 0)


def test_layers_can_be_chosen_and_the_model_stays():
    points, labels = circles()
    model = folding().train()
    found = layers.layer_bettis(model, torch.from_numpy(points), labels, layers=["2"], neighbours=4)
    assert [each.layer for each in found] == ["input", "2"]
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_the_planar_set_is_seen_as_in_the_paper():
    known = point_sets.nine_discs()
    points, labels = known.sample(5000, seed=5)
    found = layers.class_bettis(points, labels, neighbours=14)
    assert found[0][0] == 9
    assert found[1][0] == 1
    assert abs(found[1][1] - 9) <= 1  # a gap in the draw may look like one more hole


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": np.zeros(3)}, "240 samples with labels of shape"),
        ({"layers": ["9"]}, "no layer 9"),
        ({"neighbours": 200}, "needs more than 200 samples"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(options, message):
    points, labels = circles()
    with pytest.raises(TopologyError, match=message):
        layers.layer_bettis(folding(), torch.from_numpy(points), **{"labels": labels, "neighbours": 4, **options})


def test_there_is_no_other_attribute():
    with pytest.raises(AttributeError, match="attribute nothing"):
        _ = topocompress.topology.nothing
