"""Public steps on networks that take several tensors: packed on the way in; the caller's own stays as it is."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from topocompress.errors import ModelError
from topocompress.network.copying import copied
from topocompress.network.inputs import leave_several, packed, parts_of, take_several
from topocompress.types import InputPart

Function = TypeVar("Function", bound=Callable[..., Any])

_BATCHES = ("batches", "evaluation")


def takes_several(function: Function) -> Function:
    """Let a step that is called with ``model`` and ``example`` take a tuple or dict of tensors as the example.

    Then it gets a copy of the model that is called with packed inputs, and the example and batches packed alike. Where
    it has no example, the first sample of its batches is one. What it returns is called as the model is.

    Raises:
        ModelError: By the function that is returned: an input is missing, or of another shape or kind.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def carrying(*given: Any, **more: Any) -> Any:
        arguments = signature.bind(*given, **more).arguments
        example = arguments.get("example")
        if example is None:
            example = _first(arguments.get("batches"))
        if not isinstance(example, Mapping | tuple | list) or not isinstance(arguments["model"], nn.Module):
            return function(*given, **more)
        parts = parts_of(arguments["model"], example)
        for name in ("model", "reference"):
            if isinstance(arguments.get(name), nn.Module):
                arguments[name] = copied(arguments[name])
                take_several(arguments[name], parts)
        arguments["example"] = _together(parts, example, "example")
        for name in _BATCHES:
            if arguments.get(name) is not None:
                arguments[name] = _Packed(parts, arguments[name])
        found = function(**arguments)
        if isinstance(found, nn.Module):
            leave_several(found)
        return found

    return carrying  # type: ignore[return-value]


class _Packed:
    """Batches whose inputs are packed whenever they are iterated."""

    def __init__(self, parts: Sequence[InputPart], batches: Iterable[Any]) -> None:
        self._parts, self._batches = parts, batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for number, (inputs, labels) in enumerate(self._batches):
            yield _together(self._parts, inputs, f"batch {number}"), labels


def _first(batches: Any) -> Any:
    """The first sample of batches of several tensors; nothing where they have one."""
    if not isinstance(batches, Iterable):
        return None
    inputs = next(iter(batches), (None,))[0]
    if isinstance(inputs, Mapping):
        return {name: each[:1] for name, each in inputs.items()}
    return tuple(each[:1] for each in inputs) if isinstance(inputs, tuple | list) else None


def _together(parts: Sequence[InputPart], inputs: Any, where: str) -> Tensor:
    """(samples, 1, numbers) of a batch of several tensors (samples, ...).

    Raises:
        ModelError: They are one tensor, or have different numbers of samples, or are not what the network takes.
    """
    if not isinstance(inputs, Mapping | tuple | list) or not all(
        isinstance(each, Tensor) and each.ndim for each in _values(inputs)
    ):
        raise ModelError(
            f"{where} holds a {type(inputs).__name__}, and the network takes {', '.join(part.name for part in parts)}",
            hint="Give a tuple or dict of tensors (samples, ...), as example= is one of a single sample.",
        )
    counts = {len(each) for each in _values(inputs)}
    if len(counts) != 1:
        raise ModelError(f"{where}: its inputs have {sorted(counts)} samples", hint="Give as many of each.")
    samples = (
        {name: each[row] for name, each in inputs.items()}
        if isinstance(inputs, Mapping)
        else tuple(each[row] for each in inputs)
        for row in range(counts.pop())
    )
    return torch.stack([packed(parts, sample, where) for sample in samples])


def _values(inputs: Any) -> list[Any]:
    return list(inputs.values() if isinstance(inputs, Mapping) else inputs)
