"""Torch functions seen as they are called, whoever calls them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch.overrides import TorchFunctionMode


class FunctionCalls(TorchFunctionMode):
    """In its block every call of a torch function goes through ``_call``."""

    def _call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the call gives back; here, and where a subclass has no say in it, what the function does."""
        return func(*args, **kwargs)

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return self._call(func, args, dict(kwargs or {}))
