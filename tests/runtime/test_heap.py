"""Freed memory is kept for the next block inside, and only there."""

import ctypes

import numpy as np
import pytest

from topocompress.runtime.heap import give_back, kept_heap

resource = pytest.importorskip("resource", reason="page faults are counted by POSIX systems")
glibc = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
SIZE = 48 << 20  # above what glibc ever keeps by itself


def faults() -> int:
    """Pages that writing a fresh block brought in."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(SIZE, dtype=np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@glibc
def test_a_block_is_used_again_inside_and_not_outside():
    pages = {"first": [], "again": []}
    for _ in range(2):
        with kept_heap():
            pages["first"].append(faults())
            pages["again"].append(faults())

    assert max(pages["again"]) < min(pages["first"]) / 4


@glibc
def test_an_error_inside_comes_through_and_ends_it():
    with pytest.raises(ZeroDivisionError), kept_heap():
        faults()
        _ = 1 / 0

    with kept_heap():
        assert faults() > faults()  # the block was given back


@glibc
def test_what_is_free_is_given_back_on_demand():
    with kept_heap():
        faults()
        kept = faults()
        give_back()
        assert faults() > kept + 100


def test_another_c_library_is_left_alone(monkeypatch):
    def none(name):
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", none)
    with kept_heap():
        assert faults() >= 0
    give_back()
