from topocompress.runtime.result_store import ResultStore


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
        assert store.read("a", {}) is None


def test_without_a_folder_nothing_is_kept():
    store = ResultStore(folder=None, context={})
    store.write("a", {}, {"x": 1})
    assert store.read("a", {}) is None
