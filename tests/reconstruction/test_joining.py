"""Where samples come in, worked out by hand."""

import pytest
import torch

from topocompress.errors import DataError
from topocompress.reconstruction.joining import MAPS, joining
from topocompress.reconstruction.streams import Order

FAR = {f"between{number}": torch.Size((1, 1)) for number in range(MAPS)}
"""So many small maps that those before are gone."""
SHAPES = {"early": torch.Size((1, 100)), **FAR, "late": torch.Size((1, 10)), "last": torch.Size((1, 5))}
ORDER = Order(layers=tuple(SHAPES), streams={}, norms={}, shapes=SHAPES)


def images(count, size=4):
    return list(torch.zeros(count, 2).split(size))


def test_with_room_for_all_they_come_in_at_once():
    batches, joins = joining(images(12), ORDER, ["early", "late"], 4 * 100 * MAPS * 12)
    assert [len(batch) for batch in batches] == [4, 4, 4]
    assert joins == [0, 0, 0]


def test_the_others_come_in_where_maps_are_small():
    batches, joins = joining(images(12), ORDER, ["early", "late"], 4 * 100 * MAPS * 8)
    assert [len(batch) for batch in batches] == [4, 4, 4]
    assert joins == [0, 0, 1]


def test_what_fits_nowhere_is_left_out():
    batches, joins = joining(images(120), ORDER, ["early", "late"], 4 * 100 * MAPS * 5)
    assert joins == [0] + [1] * 11  # 4 of 5, and 48 of 50
    assert sum(map(len, batches)) == 48


def test_large_maps_that_come_later_leave_no_room_before():
    shapes = {"first": torch.Size((1, 10)), **FAR, "wide": torch.Size((1, 100))}
    order = Order(layers=tuple(shapes), streams={}, norms={}, shapes=shapes)
    batches, joins = joining(images(12), order, ["first", "wide"], 4 * 100 * MAPS * 8)
    assert (sum(map(len, batches)), joins) == (8, [0, 0])


def test_batches_that_are_larger_than_the_room_are_parted():
    batches, joins = joining(images(12, size=12), ORDER, ["early"], 4 * 100 * MAPS * 5)
    assert [len(batch) for batch in batches] == [5]
    assert joins == [0]


def test_room_for_fewer_than_are_needed_is_refused():
    with pytest.raises(DataError, match=r"only 4 of 12 .* 0\.008 MB for their maps"):
        joining(images(12), ORDER, ["early"], 4 * 100 * MAPS * 4)


def test_without_stops_there_is_nothing_to_join():
    assert joining(images(8), ORDER, [], 0)[1] == [0, 0]
