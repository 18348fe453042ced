from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.helpers.imagesets import COLOUR, GREY, stacked, write_images
from topocompress.data.crops import PhotoCrops
from topocompress.data.datasets import ArrayImages, FileImages, ForeignSet, Part
from topocompress.data.loading import load_data
from topocompress.types import Preprocessing


def test_photographs_are_lazy_deterministic_and_unlabelled():
    size = Preprocessing(input_shape=(3, 32, 40))
    first, second = (load_data(None, preprocessing=size, samples=30, eval_samples=20) for _ in range(2))
    assert not first.labelled
    assert "your own images" in first.note
    assert "\n" not in first.note
    assert (len(first.calibration), len(first.evaluation)) == (30, 20)
    backwards = torch.stack([second.calibration[index][0] for index in reversed(range(30))]).flip(0)
    assert torch.equal(stacked(first.calibration), backwards)
    assert first.calibration[0][0].shape == (3, 32, 40)
    assert first.calibration[0][1] == -1
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint != load_data(None, preprocessing=size, samples=30, seed=1).fingerprint
    assert len({image.numpy().tobytes() for image in stacked(first.calibration)}) == 30


def test_more_crops_keep_the_first_ones():
    few, many = (load_data(None, preprocessing=COLOUR, samples=count).calibration for count in (5, 9))
    assert torch.equal(stacked(few), stacked(many)[:5])


def test_evaluation_crops_share_no_pixel_with_the_others():
    black_right = torch.full((3, 40, 100), 255, dtype=torch.uint8)
    black_right[:, :, 70:] = 0
    prep = Preprocessing(input_shape=(3, 8, 8), mean=(0.0,) * 3, std=(1.0,) * 3)
    crops = PhotoCrops([black_right], used=30, evaluation=30, seed=0, preprocessing=prep)
    images = stacked(crops)
    assert images[:30].amin() > 0.5
    assert images[30:].amax() < 0.05


def test_photographs_for_a_grey_model():
    data = load_data(None, preprocessing=GREY, samples=5)
    assert data.calibration[0][0].shape == (1, 16, 16)
    assert data.evaluation[0][0].std() > 0


@pytest.mark.parametrize(("source", "suits"), [("digits", "shift"), (None, "natural")])
def test_a_source_says_how_its_images_may_be_changed_and_changes_nothing_itself(source, suits):
    data = load_data(source, preprocessing=GREY, samples=50)
    assert data.train.augmentation == data.calibration.augmentation == suits
    assert torch.equal(data.train[0][0], data.train[0][0])


def test_interpolation_reaches_the_crops():
    smooth, sharp = (
        load_data(None, preprocessing=replace(COLOUR, interpolation=kind), samples=4).calibration
        for kind in ("bilinear", "bicubic")
    )
    assert not torch.allclose(stacked(smooth), stacked(sharp), atol=0.02)


# --- the kinds of samples


def array_images(count=6):
    images = torch.arange(count, dtype=torch.float32)[:, None, None, None].expand(-1, 1, 16, 16) / count
    return ArrayImages(images, range(count), GREY)


def test_array_images():
    samples = array_images()
    image, label = samples[3]
    assert label == 3
    assert torch.allclose(image, torch.full((1, 16, 16), (0.5 - 0.3) / 0.3))
    assert samples.targets.dtype == np.int64
    assert len({samples.identity(index) for index in range(6)}) == 6


def test_file_images(tmp_path):
    paths = sorted(write_images(tmp_path, 3).glob("*.png"))
    samples = FileImages(paths, [0, 1, 0], COLOUR)
    assert len(samples) == 3
    assert (samples[1][0].shape, samples[1][1]) == ((3, 16, 16), 1)
    assert samples.identity(2) == paths[2].read_bytes()
    assert samples.readable(2)
    paths[2].write_bytes(b"")
    assert not samples.readable(2)


@pytest.mark.parametrize("items", ["pairs", "lists", "images"])
def test_foreign_items(items):
    images = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    source = {"pairs": [(image, 9) for image in images], "lists": [[image, 9] for image in images], "images": images}
    samples = ForeignSet(source[items], [1, 0, 1, 2], name="mine", preprocessing=GREY)
    assert torch.equal(stacked(samples), images)
    assert [samples[index][1] for index in range(4)] == [1, 0, 1, 2]
    assert samples.identity(1) == images[1].numpy().tobytes()


def test_a_part_renumbers_its_samples():
    whole = array_images()
    part = Part(whole, np.array([4, 2]))
    assert part.targets.tolist() == [4, 2]
    assert [part[index][1] for index in range(len(part))] == [4, 2]
    assert torch.equal(part[0][0], whole[4][0])
    assert part.identity(1) == whole.identity(2)
