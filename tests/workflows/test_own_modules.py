"""A module handed over as it is: what is taken for its inputs."""

import torch
from PIL import Image
from torch import nn

from topocompress.workflows.own_modules import own_module

PICTURE = Image.new("RGB", (40, 30))


def net():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def test_pictures_of_one_small_size_tell_the_size_of_inputs_and_that_is_said():
    found = own_module(net(), PICTURE, known=False, images=lambda: (30, 40))
    assert found.preprocessing.input_shape == (3, 30, 40)
    assert found.doubt.startswith("Input size assumed: 3 x 30 x 40, the size of the images given.")


def test_a_size_that_nothing_tells_is_said():
    found = own_module(net(), PICTURE, known=False)
    assert found.preprocessing.input_shape == (3, 224, 224)
    assert "3 x 224 x 224, as for ImageNet; it runs at other sizes too" in found.doubt


def test_a_stated_size_and_finished_inputs_leave_no_doubt():
    stated = net()
    stated.input_shape = (3, 20, 20)
    found = own_module(stated, PICTURE, known=False, images=lambda: (30, 40))
    assert (found.preprocessing.input_shape, found.doubt) == ((3, 20, 20), "")
    found = own_module(net(), torch.zeros(3, 12, 16), known=False, images=lambda: (30, 40))
    assert (found.preprocessing.input_shape, found.doubt) == ((3, 12, 16), "")


def test_lazy_layers_see_an_input_of_that_size():
    lazy = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.LazyLinear(2))
    lazy.input_shape = (3, 16, 16)
    found = own_module(lazy, PICTURE, known=False)
    assert found.module[-1].in_features == 4 * 16 * 16
