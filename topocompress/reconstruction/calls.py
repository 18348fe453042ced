"""What a layer hands to its own product, whatever its forward pass does to the input before."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from topocompress.network.functions import FunctionCalls

_PLAIN = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_PARAMETERS: dict[Any, tuple[str, ...]] = {
    F.linear: ("input", "weight", "bias"),
    **dict.fromkeys((torch.conv1d, torch.conv2d, torch.conv3d), _PLAIN),
    **dict.fromkeys((torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d), _TRANSPOSED),
}


@dataclass(frozen=True, kw_only=True)
class Product:
    """One call of a convolution or a matrix product, along the axes of its input.

    Attributes:
        inputs: What it multiplies: (samples, channels, *size), or (samples, ..., features) of a linear layer.
        weight: By which.
        bias: What it adds; ``None`` for nothing.
        stride: Per axis, as the rest.
        padding: Zeros before and after.
        dilation: Distance of taps.
        output_padding: More at the far end, of a transposed convolution.
        groups: Of channels; 1 for a linear layer.
    """

    inputs: Tensor
    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]
    groups: int


def product_of(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Product | None:
    """A call as a product; ``None`` if it is none."""
    names = _PARAMETERS.get(func)
    if names is None:
        return None
    given = {"bias": None, **dict(zip(names, args, strict=False)), **kwargs}
    dims = given["weight"].ndim - 2
    dilation = _along(given.get("dilation", 1), dims)
    return Product(
        inputs=given["input"],
        weight=given["weight"],
        bias=given["bias"],
        stride=_along(given.get("stride", 1), dims),
        padding=_around(given.get("padding", 0), given["weight"].shape[2:], dilation),
        dilation=dilation,
        output_padding=_along(given.get("output_padding", 0), dims),
        groups=given.get("groups", 1),
    )


def handed(layer: nn.Module, inputs: Tensor) -> Product:
    """The product that a layer computes for an input, before it does so; its forward pass goes no further."""
    found: list[Product] = []
    with _Catching(layer, found), contextlib.suppress(_Caught):
        layer.forward(inputs)
    if not found:
        raise RuntimeError(f"{type(layer).__name__} calls no product with its own weights")
    return found[0]


class _Caught(BaseException):
    """Ends a forward pass; no layer's ``except Exception`` holds it up."""


class _Catching(FunctionCalls):
    """Stops where a layer's own weights are used."""

    def __init__(self, layer: nn.Module, found: list[Product]) -> None:
        super().__init__()
        self._weight, self._found = layer.weight, found

    def _call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        product = product_of(func, args, kwargs)
        if product is not None and product.weight is self._weight:
            self._found.append(product)
            raise _Caught
        return func(*args, **kwargs)


def _along(value: int | Iterable[int], dims: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * dims
    given = tuple(value)
    return given * dims if len(given) == 1 else given


def _around(
    value: str | int | Iterable[int], kernel: Iterable[int], dilation: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    if isinstance(value, str):
        totals = [step * (size - 1) if value == "same" else 0 for size, step in zip(kernel, dilation, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    return tuple((each, each) for each in _along(value, len(dilation)))
