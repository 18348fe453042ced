"""Units of coupled layers, by hand."""

import numpy as np
import torch
from torch import nn

from topocompress.scoring.units import effects_of_units, known_layers, norms_of_units

GROUP = {"a": ((0, 1), (2,)), "b": ((2,), (0,))}


def test_effects_of_a_units_filters_add_up():
    slopes = {"a": torch.tensor([[1.0, 2.0, 4.0]]), "b": torch.tensor([[8.0, 16.0, 32.0]])}

    assert effects_of_units(GROUP, slopes, 2).tolist() == [[1 + 2 + 32, 4 + 8]]
    assert effects_of_units(GROUP, {"a": slopes["a"]}, 2).tolist() == [[3, 4]]  # a layer that did not run
    assert effects_of_units(GROUP, {}, 2).tolist() == [[0, 0]]


def test_norms_of_a_units_filters_add_up_in_means_of_their_layers():
    """L1 norms 1, 2, 3 of a, mean 2; 20, 0, 40 of b, mean 20."""
    model = nn.Module()
    model.a, model.b = nn.Conv2d(1, 3, (1, 2), bias=False), nn.Linear(1, 3)
    with torch.no_grad():
        model.a.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 1.0], [2.0, -1.0]]).reshape(3, 1, 1, 2))
        model.b.weight.copy_(torch.tensor([[-20.0], [0.0], [40.0]]))

    assert norms_of_units(GROUP, model).tolist() == [0.5 + 1 + 2, 1.5 + 1]
    with torch.no_grad():
        model.b.weight.zero_()
    np.testing.assert_allclose(norms_of_units(GROUP, model), [1.5, 1.5])


def test_layers_without_a_width_are_left_out():
    assert known_layers([GROUP, {"c": ((0,),)}], {"a": 3}) == [{"a": GROUP["a"]}]
