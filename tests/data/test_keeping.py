"""Samples kept as they were read."""

import pytest
import torch
from torch.utils.data import Dataset, Subset

from topocompress.data.datasets import ArrayImages, Part
from topocompress.data.keeping import Kept
from topocompress.types import Preprocessing

PREPARED = Preprocessing(input_shape=(3, 4, 4), mean=(0.5,) * 3, std=(0.25,) * 3)


class Counting(ArrayImages):
    """Counts what is read."""

    def __init__(self, count=6):
        images = torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        super().__init__(images, range(count), PREPARED)
        self.read = []

    def pixels(self, index):
        self.read.append(index)
        return super().pixels(index)


def same(one, other):
    return one[1] == other[1] and torch.equal(one[0], other[0])


@pytest.mark.parametrize(
    "view",
    [
        lambda source: source,
        lambda source: Part(source, [4, 1, 3]),
        lambda source: Subset(source, [5, 0]),
        lambda source: Subset(Subset(source, [5, 0, 2]), [1, 2]),
    ],
)
def test_samples_are_the_same_and_read_once(view):
    source = Counting()
    seen = view(source)
    expected = [seen[index] for index in range(len(seen))]
    source.read.clear()
    kept = Kept(seen, 10_000)
    for _ in range(3):
        assert all(same(kept[index], wanted) for index, wanted in enumerate(expected))
    assert len(source.read) == len(set(source.read)) == len(kept) == len(expected)


def test_eight_bits_take_a_quarter_of_the_room():
    source = Counting()
    kept = Kept(source, 2 * 3 * 4 * 4)  # two images of 4 by 4 pixels in 8 bits, half of one in single precision
    for _ in range(2):
        for index in range(6):
            kept[index]
    assert source.read == [0, 1, 2, 3, 4, 5, 2, 3, 4, 5]


class Foreign(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return torch.rand(3, 4, 4), index


def test_a_set_of_somebody_elses_is_frozen_as_it_came():
    kept = Kept(Foreign(), 10_000)
    assert same(kept[1], kept[1])
    assert kept[1][1] == 1


def test_there_are_no_more_than_there_are():
    kept = Kept(Counting(), 0)
    assert len(kept) == 6
    for index in (6, -1):
        with pytest.raises(IndexError):
            kept[index]
