from __future__ import annotations

import os
import sys

# Before torch is imported. Tests start many processes: compiled once, torch is there in a third of the time; and each
# on one thread, they leave the other cores to the tests that run beside them.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest  # noqa: E402

from tests.helpers.commands import place  # noqa: E402, F401 - a fixture
from tests.helpers.digits import digits  # noqa: E402, F401 - a fixture
from tests.helpers.imagesets import write_images  # noqa: E402


@pytest.fixture
def two_classes(tmp_path):
    write_images(tmp_path / "set" / "cat", 30, seed=1)
    write_images(tmp_path / "set" / "dog", 10, seed=2)
    return tmp_path / "set"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test reads or fills the user's cache, nor another test's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("TOPOCOMPRESS_CACHE", str(folder))
    return folder
