from __future__ import annotations

import pytest
from imagesets import write_images


@pytest.fixture
def two_classes(tmp_path):
    write_images(tmp_path / "set" / "cat", 30, seed=1)
    write_images(tmp_path / "set" / "dog", 10, seed=2)
    return tmp_path / "set"
