"""Workers that keep the order, leave nobody behind, and read shared arrays without copying them."""

import contextlib
import gc
import os

import numpy as np
import pytest
from children import describe_array, descriptors, divide, double, process, threads, workers_left
from threadpoolctl import threadpool_limits

from topocompress.errors import DataError
from topocompress.parallel import shared_array, workers

KINDS = {
    "here": (1, "processes"),
    "two processes": (2, "processes"),
    "three processes": (3, "processes"),
    "threads": (2, "threads"),
}


@pytest.fixture(params=KINDS)
def kind(request):
    count, name = KINDS[request.param]
    yield {"count": count, "threads": name == "threads"}
    assert workers_left() == []


def test_results_come_in_order(kind):
    with workers(**kind) as run:
        assert list(run(double, ((number,) for number in range(30)))) == list(range(0, 60, 2))
        assert list(run(double, [])) == []
        assert list(run(double, [(3,)])) == [6]


def test_tasks_run_where_they_should(kind):
    with workers(**kind) as run:
        places = set(run(process, [(number,) for number in range(12)]))

    own = os.getpid() in places
    assert own == (kind["count"] == 1 or kind["threads"])
    assert len(places) <= kind["count"]


def test_every_task_has_one_thread_and_the_limit_is_lifted_afterwards(kind):
    with threadpool_limits(3):
        with workers(**kind) as run:
            assert set(run(threads, [(number,) for number in range(8)])) == {1}
        assert threads(None) == 3


def test_an_error_of_a_task_comes_through(kind):
    with pytest.raises(ZeroDivisionError), workers(**kind) as run:
        list(run(divide, [(1,), (0,), (1,), (1,)]))


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_error_between_results_ends_the_work(kind, stop):
    done = []
    with pytest.raises(stop), workers(**kind) as run:
        for result in run(double, ((number,) for number in range(200))):
            done.append(result)
            if len(done) == 3:
                raise stop

    assert done == [0, 2, 4]
    assert workers_left() == []


def test_results_that_are_still_held_do_not_keep_workers(kind):
    # As in a debugger, or with a traceback in hand: nothing has closed the generator.
    with workers(**kind) as run:
        held = run(double, ((number,) for number in range(200)))
        assert [next(held), next(held)] == [0, 2]

    assert workers_left() == []
    assert list(held) == ([] if kind["count"] > 1 else list(range(4, 400, 2)))


def test_workers_can_be_had_again():
    for _ in range(2):
        with workers(2) as run:
            assert sum(run(double, [(1,), (2,)])) == 6
        assert workers_left() == []


def test_workers_without_work():
    with workers(3):
        pass
    assert workers_left() == []


# --- shared arrays ---


def filled(*shape: int) -> np.ndarray:
    array = shared_array(shape)
    array[...] = np.arange(array.size).reshape(shape)
    return array


def test_workers_map_a_shared_array_and_cannot_write_it():
    array = filled(6, 4)

    with workers(2) as run:
        seen = list(run(describe_array, [(array[place : place + 2],) for place in (0, 2, 4)]))

    for place, (kind, file, numbers, written) in zip((0, 2, 4), seen, strict=True):
        assert kind == "memmap"
        assert file == str(array.filename)
        assert numbers == array[place : place + 2].tolist()
        assert not written
    assert array.tolist() == np.arange(24.0).reshape(6, 4).tolist()


def test_what_is_written_later_is_seen():
    array = filled(2, 3)
    with workers(2) as run:
        list(run(describe_array, [(array,)]))
        array[1, 2] = -5
        ((_, _, numbers, _),) = run(describe_array, [(array,)])

    assert numbers[1][2] == -5


def test_an_array_is_float32_and_of_its_shape():
    for shape in [(3, 4, 5), (1,), (2, 2, 1)]:
        array = shared_array(shape)
        assert array.shape == shape
        assert array.dtype == np.float32


def test_a_shared_array_is_released_with_its_last_view():
    gc.collect()
    before = descriptors()
    array = filled(50, 4)
    part = array[10:20][2:]
    assert descriptors() > before

    del array
    gc.collect()
    assert descriptors() > before
    assert part[0, 0] == 48

    del part
    gc.collect()
    assert descriptors() == before


def test_descriptors_do_not_pile_up_over_runs():
    counts = []
    for _ in range(3):
        array = filled(4, 4)
        with workers(2) as run:
            list(run(describe_array, [(array[:2],), (array[2:],)]))
        del array
        gc.collect()
        counts.append(descriptors())

    assert counts[0] == counts[1] == counts[2]


def test_without_anonymous_memory_a_file_serves_and_is_removed(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    array = filled(6, 4)
    assert len(list(tmp_path.iterdir())) == 1

    with workers(2) as run:
        ((kind, file, numbers, written),) = run(describe_array, [(array[1:],)])

    assert (kind, written) == ("memmap", False)
    assert file.startswith(str(tmp_path))
    assert numbers == array[1:].tolist()
    del array
    gc.collect()
    assert list(tmp_path.iterdir()) == []


# --- a cluster ---


def test_a_cluster_that_does_not_answer_is_refused():
    pytest.importorskip("distributed")
    with (
        pytest.raises(DataError, match="no Dask scheduler answers at nowhere"),
        contextlib.ExitStack() as stack,
    ):
        stack.enter_context(workers(2, cluster="nowhere://x:1"))
