import gc
import weakref

import numpy as np
import psutil
import pytest

from topocompress.errors import DataError
from topocompress.runtime import resources
from topocompress.runtime.resources import Resources, available_memory, cores, give_back, peak_memory


@pytest.mark.parametrize("wrong", [{"memory": 0}, {"memory": -5}, {"workers": 0}, {"workers": -1}])
def test_less_than_one_is_refused(wrong):
    with pytest.raises(DataError):
        Resources(**wrong)


def test_a_given_memory_is_the_budget():
    assert Resources(memory=12345).bytes == 12345


def test_otherwise_half_of_what_is_free_is_the_budget(monkeypatch):
    monkeypatch.setattr(resources, "available_memory", lambda: 1001)

    assert Resources().bytes == 500


def test_free_memory_is_what_the_system_says(monkeypatch):
    monkeypatch.setattr(resources, "_LIMITS", ())

    class Memory:
        available = 777

    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory)

    assert available_memory() == 777


@pytest.mark.parametrize(
    ("limit", "usage", "expected"),
    [("1000", "400", 600), ("max", "400", 5000), ("9000", "1", 5000), ("300", "400", 1), ("", "", 5000)],
)
def test_a_container_may_allow_less(limit, usage, expected, tmp_path, monkeypatch):
    (tmp_path / "limit").write_text(f"{limit}\n", encoding="utf-8")
    (tmp_path / "usage").write_text(f"{usage}\n", encoding="utf-8")
    missing = (tmp_path / "none", tmp_path / "none")
    monkeypatch.setattr(resources, "_LIMITS", (missing, (tmp_path / "limit", tmp_path / "usage")))

    class Memory:
        available = 5000

    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory)

    assert available_memory() == expected


@pytest.mark.parametrize("allowed", [1, 3])
def test_cores_that_this_process_may_not_use_do_not_count(allowed, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: set(range(allowed)), raising=False)

    assert cores() == allowed


def test_peak_memory_only_grows_and_counts_what_was_held():
    before = peak_memory()
    assert before >= 0.9 * psutil.Process().memory_info().rss

    more = psutil.Process().memory_info().rss
    block = np.ones(before - more + (32 << 20), dtype=np.uint8)

    assert peak_memory() >= before + (16 << 20)
    del block
    assert peak_memory() >= before + (16 << 20)


def test_what_only_refers_to_itself_is_freed_where_that_is_asked_for():
    class Graph:
        pass

    gc.disable()
    try:
        graph = Graph()
        graph.itself, left = graph, weakref.ref(graph)
        del graph
        give_back(cycles=False)
        assert left() is not None
        give_back()
        assert left() is None
    finally:
        gc.enable()
