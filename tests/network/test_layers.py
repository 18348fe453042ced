"""What counts as a layer with filters, how wide it is, and which weights belong to which filter."""

import pytest
import torch
from torch import nn

from topocompress.network.layers import filters_of, input_weights, separates, width_of

LAYERS = {
    "linear": nn.Linear(4, 6),
    "conv1d": nn.Conv1d(4, 6, 3, groups=2),
    "conv2d": nn.Conv2d(4, 6, 3),
    "conv3d": nn.Conv3d(4, 6, 3),
    "transposed1d": nn.ConvTranspose1d(4, 6, 3),
    "transposed2d": nn.ConvTranspose2d(4, 6, 3, groups=2),
    "transposed3d": nn.ConvTranspose3d(4, 8, 3, groups=4),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_filter_s_weights_are_those_on_which_its_map_depends(name):
    layer = LAYERS[name]
    axes = layer.weight.ndim - 2
    outputs = width_of(layer, out=True)
    found = filters_of(layer)
    assert found.shape[0] == outputs == layer(torch.ones(1, width_of(layer, out=False), *[5] * axes)).shape[1]
    assert found.numel() == layer.weight.numel()
    for channel in range(outputs):
        map_ = layer(torch.rand(1, width_of(layer, out=False), *[5] * axes) + 0.1)[:, channel]
        (used,) = torch.autograd.grad(map_.sum(), layer.weight)
        (own,) = torch.autograd.grad(filters_of(layer)[channel].sum(), layer.weight)
        assert torch.equal(used != 0, own != 0)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Conv2d(4, 4, 3, groups=4), True),
        (nn.Conv1d(4, 8, 3, groups=4), True),
        (nn.ConvTranspose3d(8, 4, 3, groups=4), True),
        (nn.Conv2d(8, 8, 3, groups=4), False),
        (nn.Conv2d(1, 1, 3), False),
        (nn.Linear(4, 4), False),
    ],
)
def test_channels_are_separate_where_a_group_has_a_single_one(layer, expected):
    assert separates(layer) is expected


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(
    ("layer", "outputs", "weights"),
    [
        (nn.LSTM(4, 5, 2, bidirectional=True), 10, {"weight_ih_l0", "weight_ih_l0_reverse"}),
        (nn.LSTM(4, 5, proj_size=3), 3, {"weight_ih_l0"}),
        (nn.GRU(4, 5, 11), 5, {"weight_ih_l0"}),
    ],
)
def test_a_recurrent_layer_reads_by_the_weights_of_its_first_layer(layer, outputs, weights):
    assert (width_of(layer, out=False), width_of(layer, out=True)) == (4, outputs)
    assert input_weights(layer).keys() == weights
    assert layer(torch.ones(3, 4))[0].shape == (3, outputs)


def test_what_is_no_layer_has_no_width():
    assert width_of(nn.BatchNorm2d(4), out=True) == 0
