import json
import random

import numpy as np
import pytest
import torch

from topocompress.training.random_state import _flushes, as_text, denormals_flushed, from_text, random_state, seeded
from topocompress.training.random_state import set_random_state as put_back

CPU = torch.device("cpu")


def draws():
    return random.random(), random.gauss(), np.random.normal(), np.random.rand(), torch.rand(2).tolist()  # noqa: NPY002


def test_a_seed_decides_all_three_and_all_three_are_given_back():
    with seeded(0, CPU):
        before = random_state(CPU)
        with seeded(5, CPU):
            first = draws()
        assert random_state(CPU) == before
        with pytest.raises(KeyError), seeded(5, CPU):
            assert draws() == first
            raise KeyError
        assert random_state(CPU) == before
        with seeded(6, CPU):
            assert all(a != b for a, b in zip(draws(), first, strict=True))


def test_a_state_survives_json():
    with seeded(1, CPU):
        draws()  # leaves a half-used pair of normal numbers in numpy and in Python
        text = json.dumps(random_state(CPU))
        expected = draws()
        put_back(json.loads(text), CPU)
        assert draws() == expected


def test_a_generators_state_survives_as_text():
    generator = torch.Generator().manual_seed(3)
    text = as_text(generator.get_state())
    expected = torch.randperm(9, generator=generator).tolist()
    generator.set_state(from_text(text))
    assert torch.randperm(9, generator=generator).tolist() == expected


@pytest.mark.parametrize("before", [False, True])
def test_denormals_are_flushed_and_the_setting_given_back(before):
    can = torch.set_flush_denormal(True)  # older CPUs cannot
    before &= can
    tiny = torch.full((3,), 1e-30)
    try:
        torch.set_flush_denormal(before)
        with denormals_flushed():
            assert bool((tiny * 1e-10).any()) is not can
        assert bool((tiny * 1e-10).any()) is not before
        assert _flushes() is before
    finally:
        torch.set_flush_denormal(False)
