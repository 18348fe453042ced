"""The size of a source's images, before they are loaded."""

import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from tests.helpers.imagesets import write_images
from topocompress.data.image_sizes import common_size


class Pictures(Dataset):
    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        if isinstance(self.items[index], Exception):
            raise self.items[index]
        return self.items[index]


def picture(width, height):
    return Image.new("RGB", (width, height))


@pytest.mark.parametrize(
    ("source", "size"),
    [
        ("digits", (8, 8)),
        ("cifar10:nowhere", (32, 32)),
        ("fashion-mnist:nowhere", (28, 28)),
        ("mydata:build", None),
        ("imagefolder:nowhere", None),
        ("nowhere", None),
        (None, None),
    ],
)
def test_sources_by_name(source, size):
    assert common_size(source) == size


def test_a_folder(tmp_path):
    for name in ("train", "val"):
        write_images(tmp_path / name / "cat", 3)
        picture(20, 12).save(tmp_path / name / "cat" / "odd.png")
    assert common_size(tmp_path) is None
    for image in tmp_path.rglob("*.png"):
        picture(20, 12).save(image)
    assert common_size(tmp_path) == (12, 20)
    assert common_size(f"imagefolder:{tmp_path}") == (12, 20)
    (tmp_path / "val" / "cat" / "broken.png").write_bytes(b"no image")
    assert common_size(tmp_path) is None


@pytest.mark.parametrize(
    ("items", "size"),
    [
        ([(picture(20, 12), 0), (picture(20, 12), 1)], (12, 20)),
        ([picture(20, 12), picture(12, 12)], None),
        ([torch.zeros(3, 12, 20)], (12, 20)),
        ([(torch.zeros(7), 0)], None),
        ([ValueError("no")], None),
        ([], None),
    ],
)
def test_a_dataset(items, size):
    assert common_size(Pictures(*items)) == size


def test_a_dataset_of_torchs():
    assert common_size(TensorDataset(torch.zeros(5, 3, 16, 24), torch.zeros(5))) == (16, 24)
