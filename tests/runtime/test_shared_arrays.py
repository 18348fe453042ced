"""Arrays written block by block; processes read shared ones without copying, and nothing of them stays behind."""

import gc
import itertools
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.children import describe_array, descriptors
from tests.helpers.oracles import few
from topocompress.runtime.parallel import workers
from topocompress.runtime.shared_arrays import LocalArray, SharedArray

BOTH = pytest.mark.parametrize("kind", [LocalArray, SharedArray])


def numbered(filters: int, samples: int, features: int) -> np.ndarray:
    return np.arange(filters * samples * features, dtype=np.float32).reshape(filters, samples, features)


def filled(*shape: int) -> SharedArray:
    array = SharedArray(shape)
    array.write(0, numbered(*shape))
    return array


@BOTH
@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 1, 1), (2, 2000, 3)])
def test_an_array_is_float32_and_of_its_shape(kind, shape):
    array = kind(shape)
    array.write(0, numbered(*shape))

    assert array.values.shape == shape
    assert array.values.dtype == np.float32
    assert np.array_equal(array.values, numbered(*shape))


@BOTH
@few()
@given(data=st.data())
def test_blocks_of_samples_come_together(kind, data):
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 5)))
    cuts = [0, *sorted(data.draw(st.sets(st.integers(0, shape[1])))), shape[1]]
    whole, array = numbered(*shape), kind(shape)

    for start, stop in data.draw(st.permutations(list(itertools.pairwise(cuts)))):
        array.write(start, np.ascontiguousarray(whole[:, start:stop]))

    assert np.array_equal(array.values, whole)


def test_a_write_that_the_system_cuts_short_goes_on(monkeypatch):
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, left, offset: pwrite(file, left[:10], offset))

    assert np.array_equal(filled(2, 3, 4).values, numbered(2, 3, 4))


def test_a_system_without_writing_at_a_place_or_files_in_memory_will_do(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "pwrite")
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    array = filled(2, 3, 4)
    assert np.array_equal(array.values, numbered(2, 3, 4))
    assert len(list(tmp_path.iterdir())) == 1
    del array
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_workers_map_a_shared_array_and_cannot_write_it():
    array = filled(6, 2, 2)

    with workers(2) as run:
        seen = list(run(describe_array, [(array.values[place : place + 2],) for place in (0, 2, 4)]))

    for place, (kind, file, numbers, written) in zip((0, 2, 4), seen, strict=True):
        assert kind == "memmap"
        assert file == str(array.values.filename)
        assert numbers == array.values[place : place + 2].tolist()
        assert not written
    assert np.array_equal(array.values, numbered(6, 2, 2))


def test_what_is_written_later_is_seen():
    array = filled(1, 2, 3)
    with workers(2) as run:
        list(run(describe_array, [(array.values,)]))
        array.write(1, np.full((1, 1, 3), -5, dtype=np.float32))
        ((_, _, numbers, _),) = run(describe_array, [(array.values,)])

    assert numbers[0][1] == [-5, -5, -5]


def test_a_shared_array_is_released_with_its_last_view():
    gc.collect()
    before = descriptors()
    array = filled(50, 2, 2)
    part = array.values[10:20][2:]
    assert descriptors() > before

    del array
    gc.collect()
    assert descriptors() > before
    assert part[0, 0, 0] == 48

    del part
    gc.collect()
    assert descriptors() == before


def test_descriptors_do_not_pile_up_over_runs():
    counts = []
    for _ in range(2):
        values = filled(4, 2, 2).values
        with workers(2) as run:
            list(run(describe_array, [(values[:2],), (values[2:],)]))
        del values
        gc.collect()
        counts.append(descriptors())

    assert counts[0] == counts[1]
