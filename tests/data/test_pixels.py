"""Images of every depth: what goes in, what must come out or be said."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.imagesets import COLOUR, GREY, stacked, write_images, write_png16, write_tiff
from topocompress.data.images import read_image
from topocompress.data.loading import load_data
from topocompress.data.ranges import Look, guessed
from topocompress.errors import DataError, ModelError
from topocompress.types import Preprocessing

PLAIN = Preprocessing(input_shape=(1, 16, 16), mean=(0.0,), std=(1.0,))
"""Leaves images of 16 x 16 as they are, black 0 and white 1."""


def scenes(count=24, size=16):
    """(count, size, size) in 0..1; each is as bright as its number says, and the last has white in it."""
    rng = np.random.default_rng(0)
    images = rng.random((count, size, size))
    images[:, 0, :2] = 0, 1
    return images * np.linspace(0.25, 1, count)[:, None, None]


def write(folder, images, save, suffix):
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        save(folder / f"{index:03d}{suffix}", image)
    return f"imagefolder:{folder}"


def pillow(path, image):
    Image.fromarray(image).save(path)


def colours(image):
    return np.repeat(image[..., None], 3, axis=-1)


def whole(images, top, dtype):
    return np.round(images * top).astype(dtype)


def loaded(source, preprocessing=PLAIN):
    return load_data(source, preprocessing=preprocessing, samples=19, eval_samples=5)


def everything(data):
    """All images of a folder, in its order."""
    found = torch.empty(len(data.calibration) + len(data.evaluation), 1, 16, 16)
    for part in (data.calibration, data.evaluation):
        found[part.indices] = stacked(part)
    return found[:, 0].numpy()


KINDS = {
    "8 bits in 16": (lambda x: whole(x, 255, np.uint16), pillow, ".png", (0, 255)),
    "10 bits in 16": (lambda x: whole(x, 1023, np.uint16), pillow, ".png", (0, 1023)),
    "12 bits in 16": (lambda x: whole(x, 4095, np.uint16), pillow, ".png", (0, 4095)),
    "12 bits in 16, nearly full": (lambda x: whole(x, 3900, np.uint16), pillow, ".tif", (0, 4095)),
    "16 bits": (lambda x: whole(x, 65535, np.uint16), pillow, ".png", (0, 65535)),
    "16 bits, stated": (
        lambda x: whole(x, 700, np.uint16),
        lambda path, image: write_tiff(path, image, stated=4095),
        ".tif",
        (0, 4095),
    ),
    "16 bits, each stating what it uses": (
        lambda x: whole(x, 3900, np.uint16),
        lambda path, image: write_tiff(path, image, stated=int(image.max())),
        ".tif",
        (0, 4095),
    ),
    "PGM, which states its white": (
        lambda x: whole(x, 1023, np.uint16),
        lambda path, image: path.write_bytes(b"P5 16 16 2047\n" + image.astype(">u2").tobytes()),
        ".pgm",
        (0, 65535),  # as Pillow scales it
    ),
    "signed 16 bits, as in CT": (lambda x: whole(x * 3000 - 1000, 1, np.int16), write_tiff, ".tif", (-1000, 2000)),
    "16 bits far from zero": (lambda x: whole(x * 3000 + 31768, 1, np.uint16), pillow, ".png", (31768, 34768)),
    "signed 8 bits": (lambda x: whole(x * 255 - 128, 1, np.int8), write_tiff, ".tif", (-128, 127)),
    "int32 of 0..255": (lambda x: whole(x, 255, np.int32), pillow, ".tif", (0, 255)),
    "int32 of no known depth": (lambda x: whole(x, 1e6, np.int32), pillow, ".tif", (0, 1e6)),
    "uint32 to its end": (lambda x: whole(x, 2**32 - 1, np.uint32), write_tiff, ".tif", (0, 2**32 - 1)),
    "floats of 0..1": (lambda x: x.astype(np.float32), pillow, ".tif", (0, 1)),
    "floats a little beyond 1": (lambda x: (x * 1.008).astype(np.float32), pillow, ".tif", (0, 1)),
    "floats of 0..255": (lambda x: (x * 255).astype(np.float32), pillow, ".tif", (0, 255)),
    "floats of -1..1": (lambda x: (x * 2 - 1).astype(np.float32), pillow, ".tif", (-1, 1)),
    "floats of no known range": (lambda x: (x * 2.5).astype(np.float32), pillow, ".tif", (0, 2.5)),
    "floats, normalised": (lambda x: (x * 5 - 2).astype(np.float32), pillow, ".tif", (-2, 3)),
    "colours of 16 bits in PNG": (
        lambda x: colours(whole(x, 4095, np.uint16)),
        write_png16,
        ".png",
        (0, 4095),
    ),
    "colours and transparency of 16 bits in PNG": (
        lambda x: np.concatenate([colours(whole(x, 4095, np.uint16)), whole(x, 65535, np.uint16)[..., None]], -1),
        write_png16,
        ".png",
        (0, 4095),
    ),
    "colours of 16 bits in TIFF": (lambda x: colours(whole(x, 65535, np.uint16)), write_tiff, ".tif", (0, 65535)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_pixel_is_lost_whatever_the_depth(tmp_path, kind):
    encode, save, suffix, (low, high) = KINDS[kind]
    stored = encode(scenes())
    data = loaded(write(tmp_path / "set", stored, save, suffix))
    assert data.preprocessing.pixel_range == (low, high)
    assert f"{low:g} is taken for black and {high:g} for white" in data.pixels
    numbers = stored[..., 0] if stored.ndim == 4 else stored
    if suffix == ".pgm":
        numbers = np.round(numbers / 2047 * 65535)
    wanted = ((numbers.astype(np.float64) - low) / (high - low)).clip(0, 1)
    assert np.abs(everything(data) - wanted).max() < 2e-4  # of white; grey is made of colours with weights like 0.2989


def test_differences_in_brightness_between_images_stay(tmp_path):
    data = loaded(write(tmp_path / "set", whole(scenes(), 4095, np.uint16), pillow, ".png"))
    highest = everything(data).max(axis=(1, 2))
    assert np.allclose(highest, np.linspace(0.25, 1, 24), atol=1e-3)


def test_white_that_is_zero(tmp_path):
    stored = whole(scenes(), 4095, np.uint16)
    folder = write(tmp_path / "set", stored, lambda path, image: write_tiff(path, image, photometric=0), ".tif")
    assert np.abs(everything(loaded(folder)) - (1 - stored / 4095)).max() < 1e-5


def test_images_of_8_bits_need_no_word_and_no_range(tmp_path):
    data = loaded(write(tmp_path / "set", whole(scenes(), 255, np.uint8), pillow, ".png"))
    assert (data.pixels, data.preprocessing) == ("", PLAIN)


def test_a_folder_of_both_depths(tmp_path):
    images = scenes()
    write(tmp_path / "set", whole(images[:20], 255, np.uint8), pillow, ".png")
    folder = write(tmp_path / "set", whole(images[20:], 65535, np.uint16), pillow, ".tif")
    data = loaded(folder)
    assert "4 of 24 images have more than 8 bits a sample" in data.pixels
    assert data.preprocessing.pixel_range == (0, 65535)


def test_a_range_that_the_user_gives(tmp_path):
    stored = whole(scenes(), 4095, np.uint16)
    folder = write(tmp_path / "set", stored, pillow, ".png")
    given = Preprocessing(input_shape=(1, 16, 16), mean=(0.0,), std=(1.0,), pixel_range=(1000, 2000))
    data = loaded(folder, given)
    assert "(as given or kept in the run directory, what lies beyond is cut off)" in data.pixels
    assert np.abs(everything(data) - ((stored - 1000.0) / 1000).clip(0, 1)).max() < 1e-5
    assert data.fingerprint != loaded(folder).fingerprint


def test_a_range_that_does_not_apply(tmp_path):
    given = Preprocessing(input_shape=(1, 16, 16), mean=(0.0,), std=(1.0,), pixel_range=(0, 15))
    data = loaded(write(tmp_path / "set", whole(scenes(), 255, np.uint8), pillow, ".png"), given)
    assert "the pixel range 0, 15 does not apply to images of 8 bits" in data.pixels
    assert everything(data).max() > 0.999


@pytest.mark.parametrize("given", [(0, 0), (5, 1), (0, float("nan")), (float("-inf"), 1)])
def test_a_range_that_is_none(given):
    with pytest.raises(ModelError, match=r"pixel range .* is not possible"):
        Preprocessing(input_shape=(1, 8, 8), pixel_range=given)


# --- what cannot be right


def nan_inside(images):
    images = images.astype(np.float32)
    images[:, 3, 3] = np.nan
    return images


REFUSED = {
    "all black": (np.zeros((24, 16, 16), np.uint8), pillow, ".png", "single colour throughout.*nearly black"),
    "black in 16 bits": (np.zeros((24, 16, 16), np.uint16), pillow, ".png", "single colour throughout"),
    "single colours": (
        np.arange(24, dtype=np.uint8)[:, None, None] * np.full((16, 16), 10, np.uint8),
        pillow,
        ".png",
        "single colour throughout",
    ),
    "one image again and again": (
        np.repeat(whole(scenes(1), 255, np.uint8), 24, axis=0),
        pillow,
        ".png",
        "all are the same image",
    ),
    "all in the transparency": (
        np.concatenate([np.zeros((24, 16, 16, 3), np.uint8), whole(scenes(), 255, np.uint8)[..., None]], -1),
        pillow,
        ".png",
        "single colour throughout.*24 of 24 images have transparent pixels",
    ),
    "no data as the lowest float": (
        np.where(np.arange(16) == 15, np.float32(-3.4e38), scenes().astype(np.float32)),
        pillow,
        ".tif",
        r"all are the same image.*-3\.4e\+38 is taken for black",
    ),
    "NaN": (nan_inside(scenes()), pillow, ".tif", "0 usable samples; 24 cannot be read .*holds NaN or Inf"),
    "doubles": (scenes(), write_tiff, ".tif", "0 usable samples; 24 cannot be read .*cannot identify"),
    "grey and transparency of 12 bits in 16": (
        whole(np.stack([scenes(), scenes()], -1), 4095, np.uint16),
        write_png16,
        ".png",
        r"several channels of 16 bits that use the lower bits \(the upper 8 reach 15 of 255\)",
    ),
}


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_shows_nothing_is_refused(tmp_path, kind):
    images, save, suffix, message = REFUSED[kind]
    with pytest.raises(DataError, match=message) as caught:
        loaded(write(tmp_path / "set", images, save, suffix))
    assert caught.value.hint


def test_whole_numbers_and_floats_have_no_common_range(tmp_path):
    write(tmp_path / "set", whole(scenes(12), 4095, np.uint16), pillow, ".png")
    folder = write(tmp_path / "set", scenes(12).astype(np.float32), pillow, ".tif")
    with pytest.raises(DataError, match="mixes images of whole numbers with more than 8 bits and images of floats"):
        loaded(folder)


def test_mostly_black_images_are_fine(tmp_path):
    images = np.zeros((24, 16, 16), np.uint8)
    images[np.arange(24), np.arange(24) % 16, 3] = 255
    assert loaded(write(tmp_path / "set", images, pillow, ".png")).pixels == ""


# --- what is said


def some_blank(images):
    images[:6] = 0.5
    return images


SAID = {
    "dark": (lambda x: whole(x, 15, np.uint8), pillow, "no pixel of the images is above 15 of 255"),
    "a mask of 0 and 1": (lambda x: whole(x, 1, np.uint8), pillow, "hardly any contrast"),
    "some blank": (
        lambda x: whole(some_blank(x), 255, np.uint8),
        pillow,
        "of 19 samples looked at have one colour throughout",
    ),
    "one bright image among 8 bits in 16": (
        lambda x: np.concatenate([whole(x[:-1], 255, np.uint16), whole(x[-1:], 65535, np.uint16)]),
        pillow,
        "samples looked at have hardly any contrast",
    ),
    "transparent": (
        lambda x: np.concatenate([colours(whole(x, 255, np.uint8)), whole(x, 200, np.uint8)[..., None]], -1),
        pillow,
        "24 of 24 images have transparent pixels, which are taken in the colour that is stored",
    ),
    "transparent, of 16 bits": (
        lambda x: np.concatenate([colours(whole(x, 65535, np.uint16)), whole(x, 65535, np.uint16)[..., None]], -1),
        write_png16,
        "24 of 24 images have transparent pixels",
    ),
    "colour for a grey model": (
        lambda x: colours(whole(x, 255, np.uint8)),
        pillow,
        "24 of 24 images are in colour, and turned into grey for a model of one channel",
    ),
    "grey and transparency of 16 bits": (
        lambda x: whole(np.stack([x, x], -1), 65535, np.uint16),
        write_png16,
        "of 24 images with 16 bits a sample the upper 8 are read",
    ),
    "several pages": (
        lambda x: whole(x, 255, np.uint8),
        lambda path, image: Image.fromarray(image).save(
            path.with_suffix(".tif"), save_all=True, append_images=[Image.new("L", (16, 16))]
        ),
        "24 of 24 images hold several pages or frames, of which the first is taken",
    ),
    "turned": (
        lambda x: whole(x, 255, np.uint8),
        lambda path, image: Image.fromarray(image).save(path.with_suffix(".jpg"), exif=turned_exif()),
        "24 of 24 images ask in their Exif data to be turned",
    ),
}


def turned_exif():
    exif = Image.Exif()
    exif[274] = 6
    return exif


@pytest.mark.parametrize("kind", SAID)
def test_what_is_odd_is_said(tmp_path, kind):
    encode, save, message = SAID[kind]
    data = loaded(write(tmp_path / "set", encode(scenes()), save, ".png"))
    assert message in data.pixels


# --- the guess alone


@pytest.mark.parametrize(
    ("kind", "low", "high", "expected"),
    [
        ("whole numbers", 0, 1, (0, 1)),
        ("whole numbers", 0, 7, (0, 7)),  # of 255 nobody would see it
        ("whole numbers", 0, 100, (0, 255)),
        ("whole numbers", 3, 256, (0, 255)),  # one level too many, as rounding makes
        ("whole numbers", 0, 20_000, (0, 65535)),
        ("whole numbers", 0, 0, (0, 1)),
        ("whole numbers", 9, 9, (9, 10)),
        ("whole numbers", -5, -5, (-5, -4)),
        ("floats", -0.003, 1.002, (0, 1)),  # overshoots of resampling
        ("floats", -0.4, 0.9, (-1, 1)),
        ("floats", -1, 3, (-1, 3)),
        ("floats", 270, 310, (270, 310)),
        ("floats", 0, 0.01, (0, 0.01)),
    ],
)
def test_guessed_ranges(kind, low, high, expected):
    assert guessed([Look(kind=kind, low=low, high=high)]) == expected


def test_a_stated_white_counts_only_where_it_is_one_and_can_be():
    def looks(*pairs):
        return [Look(kind="whole numbers", low=0, high=high, stated=stated) for high, stated in pairs]

    assert guessed(looks((100, 800), (700, 800))) == (0, 800)
    assert guessed(looks((100, 100), (700, 700))) == (0, 1023)
    assert guessed(looks((100, 800), (700, None))) == (0, 1023)
    assert guessed(looks((100, 500), (700, 500))) == (0, 1023)


def test_one_image_alone_is_read_on_the_range_it_suggests(tmp_path):
    image = whole(scenes()[-1], 4095, np.uint16)
    pillow(tmp_path / "image.png", image)
    assert np.allclose(read_image(tmp_path / "image.png")[0].numpy(), image / 4095)


# --- datasets of the user's own


class Own:
    def __init__(self, images):
        self.images, self.targets = images, [index % 2 for index in range(len(images))]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.targets[index]


def own(monkeypatch, images, preprocessing=GREY):
    monkeypatch.setattr("topocompress.data.loading.call_factory", lambda spec, error: Own(images))
    return load_data("mine:data", preprocessing=preprocessing, samples=16)


def tensors(scale=1.0, shift=0.0):
    return list(torch.from_numpy(scenes() * scale + shift).float()[:, None])


@pytest.mark.parametrize(("dtype", "top"), [(np.uint16, 4095), (np.int32, 255), (np.float32, 1)])
def test_pil_images_of_more_than_8_bits_have_one_range(monkeypatch, dtype, top):
    stored = (scenes() * top).astype(dtype)
    data = own(monkeypatch, [Image.fromarray(image) for image in stored], PLAIN)
    assert data.preprocessing.pixel_range == (0, top)
    assert f"0 is taken for black and {top} for white" in data.pixels
    wanted = torch.from_numpy(stored[data.calibration.indices] / top).float()[:, None]
    assert torch.allclose(stacked(data.calibration), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (tensors(255), r"hold values of 0\.\.2\d\d, which go to the network as they are, not scaled"),
        (tensors(), r"hold values of 0\.\.0\.\d+, which go to the network as they are, not normalised"),
    ],
)
def test_finished_tensors_that_look_unfinished(monkeypatch, images, message):
    assert re.search(message, own(monkeypatch, images).pixels)


def test_finished_tensors_are_taken_at_their_word(monkeypatch):
    assert own(monkeypatch, tensors(1 / 0.3, -1)).pixels == ""
    assert own(monkeypatch, tensors(), PLAIN).pixels == ""  # 0..1 is what this model wants


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([torch.zeros(1, 16, 16)] * 24, "single colour throughout"),
        ([torch.full((1, 16, 16), float(index)) for index in range(24)], "single colour throughout"),
        ([tensors()[5]] * 24, "all are the same image"),
        ([image.to(torch.int64) for image in tensors(255)], r"holds torch\.int64 of shape \(1, 16, 16\)"),
        ([image.to(torch.uint16) for image in tensors(4095)], r"holds torch\.uint16"),
        ([image > 0.5 for image in tensors()], r"holds torch\.bool"),
        ([image.numpy() for image in tensors()], "is a ndarray"),
    ],
)
def test_tensors_that_cannot_be_right(monkeypatch, images, message):
    with pytest.raises(DataError, match=message) as caught:
        own(monkeypatch, images)
    assert caught.value.hint


def test_inputs_of_one_pixel_have_no_contrast_to_miss(monkeypatch):
    vector = Preprocessing(input_shape=(4, 1, 1), mean=(0.0,) * 4, std=(1.0,) * 4)
    data = own(monkeypatch, list(torch.randn(24, 4, 1, 1, generator=torch.Generator().manual_seed(0))), vector)
    assert len(data.calibration) == 16


def test_ordinary_photographs_need_no_word(tmp_path):
    for suffix in (".png", ".jpg", ".webp", ".bmp"):
        write_images(tmp_path / "set", 6, suffix=suffix)
    assert load_data(f"imagefolder:{tmp_path / 'set'}", preprocessing=COLOUR, samples=12).pixels == ""


def test_the_a_of_lab_is_a_colour(tmp_path):
    for number in range(10):
        path = tmp_path / f"{number}.tif"
        Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3) + number).convert("LAB").save(path)
    data = loaded(f"imagefolder:{tmp_path}", Preprocessing(input_shape=(3, 16, 16), mean=(0.5,) * 3, std=(0.5,) * 3))
    assert "transparent" not in data.pixels
