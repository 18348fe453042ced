import contextlib
import json

import pytest

from topocompress.errors import KeptWarning
from topocompress.runtime.result_store import ResultStore
from topocompress.types import Cell

CELL = {"criterion": "l1", "ratio": 0.5, "seed": 0, "macs": 7, "removed": 0.25, "settled": 1, "tuned": None}


def test_what_was_written_is_read_by_the_same_key_only(tmp_path):
    store = ResultStore(folder=tmp_path, context={"model": "a"})
    store.write("l1-0.5", {"ratio": 0.5}, {"accuracy": 0.9})
    assert store.read("l1-0.5", {"ratio": 0.5}) == {"accuracy": 0.9}
    assert store.read("l1-0.5", {"ratio": 0.4}) is None
    assert ResultStore(folder=tmp_path, context={"model": "b"}).read("l1-0.5", {"ratio": 0.5}) is None
    assert ResultStore(folder=tmp_path, context={"model": "a"}).read("l1-0.5", {"ratio": 0.5}) == {"accuracy": 0.9}


def test_names_become_file_names(tmp_path):
    ResultStore(folder=tmp_path / "cells", context={}).write("../betti@global", {}, {})
    (path,) = (tmp_path / "cells").iterdir()
    assert path.name.startswith(".._betti_global-")


def test_a_broken_file_counts_as_missing(tmp_path):
    store = ResultStore(folder=tmp_path, context={})
    store.write("a", {}, {"x": 1})
    (path,) = tmp_path.iterdir()
    for text in ("{", "[1]"):
        path.write_text(text, encoding="utf-8")
        with pytest.warns(KeptWarning, match=f"not used, and done again: {path.name} of"):
            assert store.read("a", {}) is None


@pytest.mark.parametrize(
    ("change", "why"), [({"x": 2}, "it was edited"), ({"key": "b-0.json"}, "it was edited"), ({"more": 1}, "edited")]
)
def test_an_edited_file_counts_as_missing_and_is_said(tmp_path, change, why):
    store = ResultStore(folder=tmp_path, context={})
    store.write("a", {}, {"x": 1})
    (path,) = tmp_path.iterdir()
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}), encoding="utf-8")
    with pytest.warns(KeptWarning, match=why):
        assert store.read("a", {}) is None


def test_a_file_of_another_result_counts_as_missing_and_is_said(tmp_path):
    store = ResultStore(folder=tmp_path, context={})
    store.write("a", {}, {"x": 1})
    (first,) = tmp_path.iterdir()
    store.write("b", {}, {"x": 2})
    (second,) = set(tmp_path.iterdir()) - {first}
    second.replace(first)
    with pytest.warns(KeptWarning, match="it belongs to other work"):
        assert store.read("a", {}) is None


def test_without_a_folder_nothing_is_kept():
    store = ResultStore(folder=None, context={})
    store.write("a", {}, {"x": 1})
    assert store.read("a", {}) is None


@pytest.mark.parametrize(
    ("content", "good"),
    [
        (CELL, True),
        ({**CELL, "removed": "0.25"}, False),
        ({**CELL, "macs": 7.5}, False),
        ({**CELL, "ratio": 0.25}, False),  # another cell in its place
        ({**CELL, "settled": float("nan")}, False),
        ({**CELL, "settled": None}, False),
        ({key: value for key, value in CELL.items() if key != "macs"}, False),
        ({}, False),
    ],
)
def test_what_is_restored_is_of_its_kind_or_counts_as_missing(tmp_path, content, good):
    store = ResultStore(folder=tmp_path, context={})
    store.write("a", {}, CELL)
    (path,) = tmp_path.iterdir()
    path.write_text(json.dumps(content), encoding="utf-8")
    with contextlib.nullcontext() if good else pytest.warns(KeptWarning, match="not used, and done again"):
        found = store.restore("a", {}, Cell, criterion="l1", ratio=0.5)
    assert found == (Cell(**CELL) if good else None)
