"""Workers that keep the order, leave nobody behind, and read shared arrays without copying them."""

import os

import pytest
from threadpoolctl import threadpool_limits

from tests.helpers.children import divide, double, process, threads, workers_left
from topocompress.runtime.parallel import workers

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
