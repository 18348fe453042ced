"""The random states of Python, numpy and torch: seeded for a while, read and set as plain data."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

# Datasets of other people draw from numpy's global state, so that is the one that counts here.
_READ, _SET, _SEED = np.random.get_state, np.random.set_state, np.random.seed


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed everything; on the way out all states are what they were.

    Args:
        seed: Any whole number.
        device: A GPU's state is kept as well.
    """
    before = random_state(device)
    try:
        random.seed(seed)
        _SEED(seed % 2**32)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach for every GPU
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
    finally:
        set_random_state(before, device)


def random_state(device: torch.device) -> dict[str, Any]:
    """All states as plain data that JSON can carry."""
    version, numbers, gauss = random.getstate()
    name, keys, position, has_gauss, cached = _READ()
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [name, np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)],
        "torch": as_text(torch.get_rng_state()),
        "cuda": as_text(torch.cuda.get_rng_state(device)) if device.type == "cuda" else None,
    }


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Set all states to what :func:`random_state` returned."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = state["numpy"]
    _SET((name, np.asarray(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(from_text(state["torch"]))
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(from_text(state["cuda"]), device)


def as_text(state: torch.Tensor) -> str:
    """The bytes of a random generator's state, in hexadecimal digits."""
    return state.numpy().tobytes().hex()


def from_text(text: str) -> torch.Tensor:
    """What :func:`as_text` made text of."""
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)


@contextlib.contextmanager
def denormals_flushed() -> Iterator[None]:
    """Count denormal numbers, which slow a CPU down a hundredfold, as zero, where the CPU can.

    Threads that run already keep their setting.
    """
    before = _flushes()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _flushes() -> bool:
    """Whether denormals count as zero; torch has no question for it."""
    smallest = torch.full((1,), torch.finfo(torch.float32).tiny)
    return not bool((smallest * 0.5 > 0).any())
