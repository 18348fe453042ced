"""A classifier without a mistake, pruned on images of every depth: it stays without one, or the job is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tests.helpers.imagesets import write_png16
from tests.helpers.stripes import stripes_net, write_stripes
from topocompress import compress
from topocompress.data.loading import load_data
from topocompress.errors import DataError
from topocompress.types import Preprocessing

RGB = Preprocessing(input_shape=(3, 32, 32))


def scaled(top, dtype):
    return lambda path, image: Image.fromarray(np.asarray(image * top).astype(dtype)).save(path)


def colours(path, image):
    write_png16(path, np.repeat((image * 4095).astype(np.uint16)[..., None], 3, axis=-1))


@pytest.mark.parametrize(
    ("save", "suffix", "pixel_range"),
    [
        (scaled(255, np.uint8), ".png", None),
        (scaled(255, np.uint16), ".png", [0, 255]),
        (scaled(4095, np.uint16), ".png", [0, 4095]),
        (scaled(255, np.int32), ".tif", [0, 255]),
        (scaled(1, np.float32), ".tif", [0, 1]),
        (colours, ".png", [0, 4095]),
    ],
    ids=["8 bits", "8 bits in 16", "12 bits in 16", "int32 of 0..255", "floats of 0..1", "colours of 12 bits in 16"],
)
def test_a_perfect_classifier_stays_perfect(tmp_path, save, suffix, pixel_range):
    source = write_stripes(tmp_path / "set", save, suffix=suffix)
    data = load_data(source, preprocessing=RGB, samples=40)
    report = compress(stripes_net(), data, ratio=0.25, out=tmp_path / "run", controls=False).report
    assert (report.before.accuracy, report.after.accuracy) == (1.0, 1.0)
    assert not any(row["dead"] for row in report.plan["groups"])
    assert any("is taken for black" in note for note in report.notes) is (pixel_range is not None)
    manifest = json.loads((tmp_path / "run" / "plan.json").read_text(encoding="utf-8"))
    assert manifest["preprocessing"]["pixel_range"] == pixel_range


@pytest.mark.parametrize("top", [0, 1e-6])
def test_images_with_nothing_in_them_are_refused(tmp_path, top):
    source = write_stripes(tmp_path / "set", scaled(top, np.uint8))
    with pytest.raises(DataError, match="single colour throughout"):
        load_data(source, preprocessing=RGB, samples=40)
