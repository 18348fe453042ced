"""What a computation may use: memory, processes, a cluster."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from dataclasses import dataclass
from pathlib import Path

import joblib
import psutil

from topocompress.errors import DataError

_SHARE = 0.5
_LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What scoring may use. The scores do not depend on it.

    Attributes:
        memory: Bytes for feature clouds and the processes that score them; half of what is free if ``None``.
        workers: Processes that score filters; as many as there are cores if ``None``, and none for little work.
        cluster: Address of a Dask scheduler whose workers score the filters, such as ``tcp://host:8786``.
    """

    memory: int | None = None
    workers: int | None = None
    cluster: str | None = None

    def __post_init__(self) -> None:
        if self.memory is not None and self.memory < 1:
            raise DataError(f"a memory of {self.memory} bytes", hint="For example: --memory 2GB")
        if self.workers is not None and self.workers < 1:
            raise DataError(f"{self.workers} workers", hint="Give at least 1, or leave it out.")

    @property
    def bytes(self) -> int:
        """The budget as a number."""
        return int(available_memory() * _SHARE) if self.memory is None else self.memory


ANY = Resources()
"""Whatever the machine has."""


def cpu_seconds() -> float:
    """Processor time that this process and those it started have taken so far."""
    own = psutil.Process()
    times = own.cpu_times()
    taken = times.user + times.system
    if sys.platform != "win32":  # of those that have ended
        taken += times.children_user + times.children_system
    for child in own.children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            spent = child.cpu_times()
            taken += spent.user + spent.system
    return float(taken)


def give_back(*, cycles: bool = True) -> None:
    """Let the system have memory that was freed and that the C library keeps, where that is glibc.

    Args:
        cycles: First free what only refers to itself, as a traced network and its graph do: Python would wait with that
            until there are many such objects, however large they are. It takes some tenths of a second.
    """
    if cycles:
        gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def available_memory() -> int:
    """Bytes that this process can still take, containers' limits included."""
    free = int(psutil.virtual_memory().available)
    for limit, usage in _LIMITS:
        try:
            free = min(free, int(limit.read_text()) - int(usage.read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return max(1, free)


def cores() -> int:
    """Cores that this process may use: affinity and containers' limits count."""
    return int(joblib.cpu_count())


def peak_memory() -> int:
    """Bytes that this process has held at most so far."""
    try:
        import resource
    except ImportError:  # not on Windows
        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else 1024 * peak)
