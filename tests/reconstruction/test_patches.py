"""Layers as matrix products: rows times matrix is what the layer computes, for every kind and every setting."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from topocompress.reconstruction.patches import groups_of, is_product, matrix, places, rows, set_matrix, targets


class Padded(nn.Conv2d):
    """As TensorFlow pads: one more at the far end; its settings say nothing of it."""

    def forward(self, inputs):
        return F.conv2d(F.pad(inputs, (0, 1, 0, 1)), self.weight, self.bias, stride=2, groups=self.groups)


class Swapped(nn.Linear):
    def forward(self, inputs):
        return F.linear(inputs.transpose(1, 2), self.weight, self.bias)


LAYERS = {
    "conv that pads by itself": (lambda: Padded(4, 6, 3), (3, 4, 6, 8)),
    "the same, grouped": (lambda: Padded(4, 6, 3, groups=2), (3, 4, 6, 8)),
    "linear layer that reads the other axis": (lambda: Swapped(5, 4), (3, 5, 7)),
    "linear": (lambda: nn.Linear(5, 4), (3, 5)),
    "linear on tokens": (lambda: nn.Linear(5, 4), (3, 7, 5)),
    "conv 1-D": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1), (3, 4, 11)),
    "conv": (lambda: nn.Conv2d(4, 6, 3, padding=1), (3, 4, 6, 7)),
    "conv, nothing around": (lambda: nn.Conv2d(4, 6, (3, 2), bias=False), (3, 4, 6, 7)),
    "conv, strided, dilated": (lambda: nn.Conv2d(4, 6, 3, stride=(2, 3), dilation=2, padding=(2, 1)), (3, 4, 11, 12)),
    "conv, same": (lambda: nn.Conv2d(4, 6, (3, 5), padding="same"), (3, 4, 6, 7)),
    "conv, reflecting": (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (3, 4, 6, 7)),
    "conv, round": (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), (3, 4, 6, 7)),
    "grouped": (lambda: nn.Conv2d(6, 4, 3, padding=1, groups=2), (3, 6, 5, 5)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4), (3, 4, 5, 5)),
    "depthwise with two outputs": (lambda: nn.Conv2d(4, 8, 3, padding=1, groups=4), (3, 4, 5, 5)),
    "conv 3-D": (lambda: nn.Conv3d(2, 3, (1, 2, 3), padding=(0, 1, 1)), (2, 2, 3, 4, 5)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), (3, 4, 5, 6)),
    "transposed, dilated": (lambda: nn.ConvTranspose2d(4, 6, (2, 3), stride=(1, 2), dilation=2), (3, 4, 5, 6)),
    "transposed, grouped": (lambda: nn.ConvTranspose2d(4, 6, 3, groups=2), (3, 4, 5, 5)),
    "transposed, cropped": (lambda: nn.ConvTranspose1d(4, 6, 2, stride=2, padding=2), (3, 4, 9)),
}


@pytest.fixture(params=LAYERS)
def case(request):
    make, shape = LAYERS[request.param]
    torch.manual_seed(0)
    layer = make().double()
    return layer, torch.randn(shape, dtype=torch.float64)


def everywhere(layer, inputs):
    output = layer(inputs)
    return output, torch.arange(places(output, layer)).expand(len(inputs), -1)


def test_rows_times_matrix_is_what_the_layer_computes(case):
    layer, inputs = case
    output, where = everywhere(layer, inputs)
    found = torch.einsum("ngd,gdo->ngo", rows(inputs, layer, where), matrix(layer)).flatten(1)
    if layer.bias is not None:
        found = found + layer.bias
    torch.testing.assert_close(found, targets(output, layer, where), rtol=1e-10, atol=1e-10)


def test_some_positions_are_those_of_all(case):
    layer, inputs = case
    output, where = everywhere(layer, inputs)
    some = torch.randint(where.shape[1], (len(inputs), 3))
    for found, at in (
        (rows(inputs, layer, where), rows(inputs, layer, some)),
        (targets(output, layer, where), targets(output, layer, some)),
    ):
        whole = found.unflatten(0, (len(inputs), -1))
        picked = torch.stack([sample[positions] for sample, positions in zip(whole, some, strict=True)])
        assert torch.equal(picked.flatten(0, 1), at)


def test_a_matrix_that_is_set_is_read_again(case):
    layer, _ = case
    before, new = layer.weight.detach().clone(), torch.randn_like(matrix(layer))
    old = matrix(layer).clone()
    set_matrix(layer, new)
    assert torch.equal(matrix(layer), new)
    set_matrix(layer, old)
    assert torch.equal(layer.weight, before)
    assert groups_of(layer) == len(old)
    assert is_product(layer)


@pytest.mark.parametrize(
    "module",
    [
        nn.BatchNorm2d(3),
        nn.Sequential(nn.Linear(2, 2)),
        nn.Embedding(3, 3),
        nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
    ],
)
def test_what_has_no_matrix_of_its_own_is_no_product(module):
    assert not is_product(module)
