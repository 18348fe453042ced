"""Functions compiled to machine code by numba, kept between runs where there is a place to keep them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function when it first runs. It holds no lock of the interpreter while it runs."""
    return _with(function)


def inlined(function: Function) -> Function:
    """As :func:`compiled`, for small functions that become part of those that call them."""
    return _with(function, inline="always")


def _with(function: Function, **options: Any) -> Function:
    try:
        return cast("Function", njit(cache=True, nogil=True, **options)(function))
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return cast("Function", njit(nogil=True, **options)(function))
