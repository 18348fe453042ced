"""Networks that take several tensors: these are carried about as one, (samples, 1, numbers), and taken apart to call.

So whatever handles samples, from noise to batches to checks in float64, needs to know of one tensor only.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from topocompress.errors import ModelError
from topocompress.types import InputPart
from topocompress.types.networks import DType

_ATTRIBUTE = "_topocompress_inputs"
_EXACT = 2**24
"""Whole numbers up to this are kept exactly in float32."""
_KINDS = {
    str(kind).removeprefix("torch."): kind
    for kind in (torch.float32, torch.int64, torch.int32, torch.bool, torch.uint8, torch.float16, torch.float64)
}
_HINT = (
    "Set example_inputs on the network or its factory: a tuple or dict of tensors, as forward takes them, with a first "
    "axis of one sample."
)


def parts_of(model: nn.Module, example: Any) -> tuple[InputPart, ...]:
    """What a network takes, read from an example of it.

    Args:
        model: The network.
        example: A tuple or list of tensors (1, ...) for ``forward(a, b)``, or a dict of them for ``forward(a=, b=)`` or
            ``forward(dict)``; whichever its forward has arguments for.

    Raises:
        ModelError: It is none of these, or holds tensors that cannot be carried.
    """
    if not (isinstance(example, Mapping | tuple | list) and len(example)):
        raise ModelError(f"example_inputs is a {type(example).__name__}", hint=_HINT)
    given = dict(example) if isinstance(example, Mapping) else dict(enumerate(example))
    names = [str(name) for name in given] if isinstance(example, Mapping) else _arguments(model, len(given))
    call: Literal["positional", "keyword", "dict"] = "positional"
    if isinstance(example, Mapping):
        call = "keyword" if _takes(model, names) else "dict"
    found = []
    for name, tensor in zip(names, given.values(), strict=True):
        if not isinstance(tensor, Tensor) or tensor.ndim < 1 or tensor.shape[0] != 1:
            what = f"shape {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else f"a {type(tensor).__name__}"
            raise ModelError(f"example_inputs: {name} is {what}, not a tensor of one sample, (1, ...)", hint=_HINT)
        kind = str(tensor.dtype).removeprefix("torch.")
        if kind not in _KINDS:
            raise ModelError(f"example_inputs: {name} is of {tensor.dtype}", hint=f"One of {', '.join(_KINDS)}.")
        found.append(InputPart(name=name, shape=tuple(tensor.shape[1:]), dtype=cast("DType", kind), call=call))
    return tuple(found)


def _arguments(model: nn.Module, count: int) -> list[str]:
    parameters = inspect.signature(model.forward).parameters.values()
    named = [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    return [*named[:count], *(f"input_{number}" for number in range(len(named), count))]


def _takes(model: nn.Module, names: Sequence[str]) -> bool:
    try:
        inspect.signature(model.forward).bind(**dict.fromkeys(names))
    except TypeError:
        return False
    return True


def take_several(model: nn.Module, parts: Sequence[InputPart]) -> None:
    """Let a network, which is the caller's own, be called with packed inputs by all that runs networks."""
    if parts:
        setattr(model, _ATTRIBUTE, tuple(parts))


def leave_several(model: nn.Module) -> None:
    """Let a network be called with its own inputs again."""
    vars(model).pop(_ATTRIBUTE, None)


def parts_taken(model: nn.Module) -> tuple[InputPart, ...]:
    """What a network takes; empty for one that takes a single tensor."""
    found = getattr(model, _ATTRIBUTE, ()) or getattr(getattr(model, "module", None), _ATTRIBUTE, ())
    return cast("tuple[InputPart, ...]", found)


def numbers_of(parts: Sequence[InputPart]) -> int:
    """Numbers of one sample."""
    return sum(math.prod(part.shape) for part in parts)


def packed(parts: Sequence[InputPart], sample: Any, where: str) -> Tensor:
    """(1, numbers) float32 of one sample.

    Args:
        parts: What the network takes.
        sample: Tensors (...) without an axis of samples, in a tuple, list or dict.
        where: The sample, for messages.

    Raises:
        ModelError: A part is missing, or of another shape or kind.
    """
    given = sample if isinstance(sample, Mapping) else dict(zip((part.name for part in parts), sample, strict=False))
    flat = []
    for part in parts:
        tensor = given.get(part.name)
        kind = "nothing" if tensor is None else type(tensor).__name__
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != part.shape:
            what = f"shape {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else kind
            raise ModelError(
                f"{where}: the input {part.name} has {what}, and the network takes {part.shape}, {part.dtype}",
                hint="Yield a tensor for each, of the shapes of example_inputs without their first axis.",
            )
        if bool((tensor.abs() > _EXACT).any()) and not tensor.is_floating_point():
            raise ModelError(f"{where}: the input {part.name} holds whole numbers above {_EXACT}")
        flat.append(tensor.detach().reshape(-1).float())
    return torch.cat(flat)[None]


def unpacked(parts: Sequence[InputPart], inputs: Tensor) -> dict[str, Tensor]:
    """Name → (samples, ...) of packed inputs; floating ones as precise as these are."""
    flat = inputs.reshape(len(inputs), -1)
    found: dict[str, Tensor] = {}
    pieces = torch.split(flat, [math.prod(part.shape) for part in parts], dim=1)
    for part, piece in zip(parts, pieces, strict=True):
        shaped = piece.reshape(len(inputs), *part.shape)
        kind = _KINDS[part.dtype]
        found[part.name] = shaped if kind.is_floating_point else shaped.detach().round().to(kind)
    return found


def called(model: nn.Module, inputs: Tensor) -> Any:
    """The output of a network for a batch, which is taken apart where the network takes several tensors."""
    parts = parts_taken(model)
    if not parts:
        return model(inputs)
    return _call(model, parts, unpacked(parts, inputs))


def arguments(parts: Sequence[InputPart], given: Mapping[str, Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of a call."""
    if parts[0].call == "positional":
        return tuple(given.values()), {}
    return ((), dict(given)) if parts[0].call == "keyword" else ((dict(given),), {})


def _call(model: nn.Module, parts: Sequence[InputPart], given: Mapping[str, Tensor]) -> Any:
    args, kwargs = arguments(parts, given)
    return model(*args, **kwargs)


def made_up(model: nn.Module, numbers: Tensor, example: Tensor) -> Tensor:
    """Inputs that were made up, with the example's own whole numbers where a network takes such: they name things.

    Args:
        model: The network.
        numbers: (samples, ...) noise, or what else was made up.
        example: (1, ...) real inputs.
    """
    parts = parts_taken(model)
    if not parts:
        return numbers
    whole = torch.cat([torch.full((math.prod(part.shape),), "float" not in part.dtype) for part in parts])
    return torch.where(whole.to(numbers.device), example, numbers)


def fed(inputs: Sequence[Any], batch: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """What an ONNX session is fed for a batch: the batch, or its parts where it has several inputs.

    Args:
        inputs: The session's inputs.
        batch: (samples, ...) the batch, packed where there are several.
    """
    if len(inputs) == 1:
        return {inputs[0].name: batch}
    flat, start, found = batch.reshape(len(batch), -1), 0, {}
    for each in inputs:
        shape = [int(side) for side in each.shape[1:]]
        stop = start + math.prod(shape)
        kind = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}.get(each.type)
        kind = kind or each.type.removeprefix("tensor(").removesuffix(")")
        piece = flat[:, start:stop].reshape(len(batch), *shape)
        found[each.name] = (piece if kind.startswith("float") else np.rint(piece)).astype(kind)
        start = stop
    return found
