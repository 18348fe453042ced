"""Several processes that train together: which one speaks, and how the others get what it alone computes.

Launchers (``accelerate launch``, ``torchrun``) say by environment variables which process is which. Without one, there
is one process, and everything here does nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from topocompress.errors import DataError

T = TypeVar("T")

_APART: ContextVar[bool] = ContextVar("apart", default=False)


def rank() -> int:
    """Number of this process among those that were launched together; 0 is the main one."""
    return int(os.environ.get("RANK") or 0) if int(os.environ.get("WORLD_SIZE") or 1) > 1 else 0


def launched() -> bool:
    """Whether a launcher started this process."""
    return "LOCAL_RANK" in os.environ or int(os.environ.get("WORLD_SIZE") or 1) > 1


def refuse_several(what: str) -> None:
    """Refuse processes that were launched together for what only one can do.

    Raises:
        DataError: There are several.
    """
    if int(os.environ.get("WORLD_SIZE") or 1) > 1:
        raise DataError(f"{what} runs in one process", hint="Start it without a launcher.")


def is_main() -> bool:
    """Whether this process writes and prints."""
    return rank() == 0


def from_main(work: Callable[[], T]) -> T:
    """What the main process computes, in every process; the others wait for it.

    Args:
        work: Called in the main process alone. Its result is pickled for the others.

    Raises:
        Exception: What ``work`` raises, in every process; see :func:`is_echo`.
    """
    if not _together():
        return work()
    from torch import distributed

    parcel: list[Any] = [None, None]
    if distributed.get_rank() == 0:
        try:
            parcel[0] = work()
        except BaseException as error:
            parcel[1] = error
            with contextlib.suppress(Exception):  # the error at hand matters more than the others' wait
                distributed.broadcast_object_list(parcel, src=0)
            raise
    distributed.broadcast_object_list(parcel, src=0)
    if parcel[1] is not None:
        parcel[1].is_echo = True
        raise parcel[1]
    result: T = parcel[0]
    return result


def part() -> bool:
    """From here on the main process works alone, until :func:`join`; returns whether this is it."""
    _APART.set(True)
    return is_main()


def join() -> None:
    """Work together again."""
    _APART.set(False)


def is_echo(error: BaseException) -> bool:
    """Whether an error is the main process's, raised here as well so that this process ends too."""
    return bool(getattr(error, "is_echo", False))


def gathered(value: Any) -> list[Any]:
    """One value of each process, in the order of their numbers, in every process."""
    if not _together():
        return [value]
    from torch import distributed

    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, value)
    return found


def _together() -> bool:
    import sys

    if _APART.get() or "torch" not in sys.modules:
        return False
    from torch import distributed

    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
