from __future__ import annotations

import pytest

from tests.helpers.commands import place  # noqa: F401 - a fixture
from tests.helpers.digits import digits  # noqa: F401 - a fixture
from tests.helpers.imagesets import write_images


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
