"""Samples of handwritten digits, loaded once."""

import pytest

from topocompress.data import Data, load_data
from topocompress.models import load_model


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data("digits", preprocessing=load_model("digits").preprocessing, samples=120, eval_samples=100)
