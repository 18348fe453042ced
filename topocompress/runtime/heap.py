"""The C library's heap, tuned for passes that ask for the same large blocks again and again."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # names of glibc's mallopt, from malloc.h
_ALL = 2**31 - 1
_AS_A_RULE = ((_MMAP_MAX, 65536), (_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 64 << 20))
"""What glibc settles on by itself once large blocks have been freed."""


@contextlib.contextmanager
def kept_heap() -> Iterator[None]:
    """Keep memory that is freed inside for whoever asks next; give it back to the system at the end.

    A network's maps are large enough for glibc to take each from the system and return it: every batch pays again for
    every page, up to a quarter of a forward pass on the CPU. With another C library nothing happens.
    """
    library: Any = _glibc()
    if library is None:
        yield
        return
    set_option: Callable[[int, int], int] = library.mallopt
    set_option(_MMAP_MAX, 0)
    set_option(_TRIM_THRESHOLD, _ALL)
    try:
        yield
    finally:
        for option, value in _AS_A_RULE:
            set_option(option, value)
        library.malloc_trim(0)


def give_back() -> None:
    """Return to the system what is free: after copies of a network are gone, glibc may keep several times its size."""
    library: Any = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> Any:
    try:
        library = ctypes.CDLL(None)
        return library if all(hasattr(library, name) for name in ("mallopt", "malloc_trim")) else None
    except (OSError, TypeError):  # Windows knows no library without a name
        return None
