"""Arrays that are written a few samples at a time, in this process's memory or where other processes can read them."""

from __future__ import annotations

import math
import os
import tempfile
import weakref
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Writable(Protocol):
    """Room for clouds.

    Attributes:
        values: (filters, samples, features) float32.
    """

    values: NDArray[np.float32]

    def write(self, start: int, block: NDArray[np.float32]) -> None:
        """Put a contiguous (filters, some samples, features) block where sample ``start`` and those after it are."""


class LocalArray:
    """An array in this process's memory."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.values: NDArray[np.float32] = np.empty(shape, dtype=np.float32)

    def write(self, start: int, block: NDArray[np.float32]) -> None:
        """See :class:`Writable`."""
        self.values[:, start : start + block.shape[1]] = block


class SharedArray:
    """An array that worker processes map into their memory, read-only, instead of copying it.

    Where the system can, it has no name in the file system that could outlive this process. It is written as a file
    is, not through its mapping: a fresh page costs several times as much when it is first touched in a mapping.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        if hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create("topocompress")
            path = f"/proc/{os.getpid()}/fd/{self._descriptor}"
        else:
            self._descriptor, path = tempfile.mkstemp(prefix="topocompress-")
        os.truncate(self._descriptor, max(1, 4 * math.prod(shape)))
        mapped: Any = np.memmap(path, dtype=np.float32, mode="r" if hasattr(os, "pwrite") else "r+", shape=shape)
        mapped.mode = "r"  # what joblib maps it with
        weakref.finalize(mapped, _forget, self._descriptor, path)
        self.values: NDArray[np.float32] = mapped

    def write(self, start: int, block: NDArray[np.float32]) -> None:
        """See :class:`Writable`."""
        if not hasattr(os, "pwrite"):
            self.values[:, start : start + block.shape[1]] = block
            return
        _, samples, features = self.values.shape
        if not block.size:
            return
        for channel, maps in enumerate(block):
            _write_all(self._descriptor, memoryview(maps).cast("B"), 4 * features * (channel * samples + start))


def _write_all(descriptor: int, left: memoryview, offset: int) -> None:
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written


def _forget(descriptor: int, path: str) -> None:
    os.close(descriptor)
    if not path.startswith("/proc/"):
        Path(path).unlink(missing_ok=True)
