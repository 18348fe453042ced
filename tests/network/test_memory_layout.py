import pytest
import torch
from torch import nn

from topocompress.errors import ModelError
from topocompress.network.memory_layout import fast_layout, laid_out


class Head(nn.Module):
    """A convolution and a linear layer, joined by ``flatten``."""

    def __init__(self, flatten):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.drop, self.linear = nn.Conv2d(2, 3, 3, padding=1), nn.Dropout(0.5), nn.Linear(48, 5)
        self.flatten = flatten

    def forward(self, images):
        return self.linear(self.drop(self.flatten(self.conv(images))))


def images():
    return torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(1))


def test_images_lie_channels_last_before_convolutions():
    assert fast_layout(Head(lambda maps: maps.flatten(1)), images()) == torch.channels_last


def test_a_network_that_views_its_feature_maps_keeps_the_usual_layout():
    model = Head(lambda maps: maps.view(len(maps), -1))
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        model(laid_out(images(), torch.channels_last))
    assert fast_layout(model, images()) == torch.contiguous_format


def test_a_network_that_reads_memory_in_its_order_keeps_the_usual_layout():
    model = Head(lambda maps: maps.as_strided((len(maps), 48), (48, 1)))
    assert fast_layout(model, images()) == torch.contiguous_format


def test_the_model_and_the_random_state_stay():
    model = Head(lambda maps: maps.flatten(1)).train()
    random = torch.get_rng_state()
    fast_layout(model, images())
    assert model.training and model.drop.training
    assert torch.equal(torch.get_rng_state(), random)


def test_vectors_have_no_channels_last():
    assert fast_layout(nn.Linear(3, 2), torch.ones(2, 3)) == torch.contiguous_format
    assert laid_out(torch.ones(2, 3), torch.channels_last).is_contiguous()


def test_outputs_that_differ_in_number_are_no_sign_of_a_misread_layout():
    class Boxes(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, images):
            return [{"boxes": torch.ones(3 if images.is_contiguous() else 2, 4), "scores": torch.empty(0)}]

    assert fast_layout(Boxes(), images()) == torch.channels_last


def test_samples_that_do_not_fit_are_an_error():
    with pytest.raises(ModelError, match="does not accept inputs of shape"):
        fast_layout(Head(lambda maps: maps.flatten(1)), images()[:, :1])


def test_nan_is_left_for_others_to_find():
    model = Head(lambda maps: maps.flatten(1))
    with torch.no_grad():
        model.conv.bias[0] = torch.nan
    assert fast_layout(model, images()) == torch.channels_last
