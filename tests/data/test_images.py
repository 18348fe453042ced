from __future__ import annotations

import pytest
import torch
from PIL import Image
from torchvision import models as tv

from tests.helpers.imagesets import COLOUR, GREY
from topocompress.data.images import finished, look_at, prepare, read_image
from topocompress.errors import DataError
from topocompress.models.preprocessing import published_preprocessing
from topocompress.types import Preprocessing


def plain(height, width, **options):
    return Preprocessing(input_shape=(3, height, width), mean=(0.0,) * 3, std=(1.0,) * 3, **options)


def noise(*shape):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def edge(dtype):
    """Black left half, white right half, (3, 8, 8); enlarging it bicubically overshoots beside the edge."""
    image = torch.zeros(3, 8, 8)
    image[:, :, 4:] = 1
    return image if dtype.is_floating_point else (image * 255).to(dtype)


# --- preparing


@pytest.mark.parametrize(
    ("weights", "interpolation"),
    [(tv.ResNet18_Weights.IMAGENET1K_V1, "bilinear"), (tv.EfficientNet_B0_Weights.IMAGENET1K_V1, "bicubic")],
)
def test_prepared_as_torchvision_does_for_its_weights(weights, interpolation):
    preprocessing = published_preprocessing(weights)
    assert preprocessing.interpolation == interpolation
    image = noise(3, 300, 400)
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    ours, theirs = prepare(image, preprocessing), weights.transforms()(picture)
    one_level = 1 / 255 / min(preprocessing.std)
    assert (ours - theirs).abs().max() < 1.01 * one_level
    other = "bilinear" if interpolation == "bicubic" else "bicubic"
    differently = prepare(image, Preprocessing(input_shape=(3, 224, 224), resize=256, interpolation=other))
    assert (differently - theirs).abs().max() > 3 * one_level


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_bicubic_stays_between_black_and_white(dtype):
    found = prepare(edge(dtype), plain(32, 32, interpolation="bicubic"))
    assert (found.amin(), found.amax()) == (0, 1)
    assert not torch.allclose(found, prepare(edge(dtype), plain(32, 32)), atol=0.02)


def test_resize_and_crop_keep_the_aspect():
    image = torch.zeros(3, 20, 60, dtype=torch.uint8)
    image[:, :, 20:40] = 255  # the middle third, which the crop keeps
    assert prepare(image, plain(16, 16, resize=16))[:, :, 2:-2].amin() > 0.95
    assert prepare(image, plain(16, 16)).amin() < 0.05


def test_crop_of_a_larger_short_side():
    image = torch.zeros(3, 20, 20, dtype=torch.uint8)
    image[:, 5:15, 5:15] = 255
    assert prepare(image, plain(10, 10, resize=20)).amin() == 1


def test_normalised_per_channel():
    preprocessing = Preprocessing(input_shape=(3, 2, 2), mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
    found = prepare(torch.full((3, 2, 2), 255, dtype=torch.uint8), preprocessing)
    assert found[:, 0, 0].tolist() == [1.0, 1.0, 0.0]


def test_grey_for_a_colour_model_and_colour_for_a_grey_one():
    grey = prepare(noise(1, 16, 16), COLOUR)
    assert grey.shape == (3, 16, 16)
    assert torch.equal(grey[0], grey[1])
    red = torch.zeros(3, 16, 16, dtype=torch.uint8)
    red[0] = 255
    found = prepare(red, GREY)
    assert found.shape == (1, 16, 16)
    assert (found * 0.3 + 0.3).mean().item() == pytest.approx(0.299, abs=0.002)  # the weight of red in luminance


def test_channels_that_cannot_be_converted():
    four = Preprocessing(input_shape=(4, 16, 16), mean=(0.5,) * 4, std=(0.5,) * 4)
    with pytest.raises(DataError, match="3 channels do not fit a model with 4"):
        prepare(noise(3, 16, 16), four)


# --- files


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "P", "RGBA", "CMYK", "1"])
def test_colour_modes(tmp_path, mode):
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    Image.new("RGB", (24, 20), (128, 128, 128)).convert(mode).save(path)
    found = read_image(path)
    assert (found.shape, found.dtype) == ((3, 20, 24), torch.uint8)
    assert 0.4 < found.float().mean() / 255 < 0.6


@pytest.mark.parametrize("damage", ["text", "empty", "truncated"])
def test_damaged_files(tmp_path, damage):
    path = tmp_path / "image.png"
    Image.fromarray(noise(20, 24, 3).numpy()).save(path)
    assert not isinstance(look_at(path), str)
    path.write_bytes({"text": b"no image", "empty": b"", "truncated": path.read_bytes()[:600]}[damage])
    assert isinstance(look_at(path), str)
    with pytest.raises(DataError, match=r"cannot read the image .*image\.png"):
        read_image(path)


# --- what datasets of the user's own yield


def test_raw_images_are_prepared():
    array = noise(20, 24, 3)
    from_tensor = finished(array.permute(2, 0, 1), COLOUR, "mine")
    assert torch.equal(from_tensor, finished(Image.fromarray(array.numpy()), COLOUR, "mine"))
    assert torch.equal(from_tensor, prepare(array.permute(2, 0, 1), COLOUR))
    grey = noise(20, 24)
    assert torch.equal(finished(grey, GREY, "mine"), finished(Image.fromarray(grey.numpy()), GREY, "mine"))


def test_finished_inputs_stay_as_they_are():
    image = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = finished(image.requires_grad_(), GREY, "mine")
    assert torch.equal(found, image.float())
    assert not found.requires_grad


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(3, 16, 16), "mine has the wrong channels"),
        (torch.zeros(1, 20, 16), "mine has the wrong shape"),
        (torch.zeros(16, 16), "mine has the wrong shape"),
        (torch.zeros(1, 16, 16, dtype=torch.int64), r"holds torch.int64 of shape \(1, 16, 16\)"),
        (torch.full((1, 16, 16), float("nan")), "NaN or Inf"),
        (torch.full((1, 16, 16), float("inf")), "NaN or Inf"),
        ("a picture", "mine is a str"),
    ],
)
def test_inputs_that_do_not_fit(image, message):
    with pytest.raises(DataError, match=message) as caught:
        finished(image, GREY, "mine")
    assert caught.value.hint
