"""Where the channels of a layer lie in the tensors that are computed from it: on which axes, and in which order.

A view splits an axis into factors or puts factors together, a permutation moves them. So a tensor's *layout* says of
every axis which factors it is made of, those of channels with their order: (batch, tokens, 3 · heads · d), seen as
(batch, tokens, 3, heads, d), has its channels on three axes, and their numbers are what they were. Only where they are
on one axis again, in another order or with others between them, do they get new numbers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from topocompress.dependencies.steps import Shape, axis_of, input_shape, name_of, shape_of

Factor = tuple[tuple[int, ...] | None, int]
"""Order among the factors of channels, ``None`` for others, and size; only one of channels may be 1 long."""
Layout = tuple[tuple[Factor, ...], ...]
"""The factors of every axis."""

_VIEWS = ("View", "UnsafeView", "ReshapeAlias")
REARRANGES = (*_VIEWS, "Permute", "Transpose", "T", "Clone", "Unsqueeze", "Squeeze", "Alias")
"""What the steps are called that compute nothing."""
_ATTENTION = "ScaledDotProduct"
_PRODUCTS = ("BmmBackward", "BaddbmmBackward")


def kind_of(step: Any) -> str:
    """What a step does, ``View`` say."""
    return name_of(step).partition("Backward")[0].removeprefix("_").removesuffix("Copy")


def rearranges(step: Any) -> bool:
    """Whether a step computes nothing, and only says where numbers lie."""
    return kind_of(step) in REARRANGES


def multiplies(step: Any) -> bool:
    """Whether a step is a product of matrices, or attention."""
    return name_of(step).startswith((_ATTENTION, "_" + _ATTENTION, *_PRODUCTS))


def plain(shape: Sequence[int], axis: int) -> Layout:
    """That of a tensor with its channels on one axis."""
    return tuple(_factors((0,) if place == axis else None, size) for place, size in enumerate(shape))


def orders(layout: Layout) -> list[Factor]:
    """The factors of channels, in their order."""
    return sorted((each for axis in layout for each in axis if each[0] is not None), key=lambda each: each[0] or ())


def width(layout: Layout) -> int:
    """How many channels there are."""
    return math.prod(size for _, size in orders(layout))


def channel_axes(layout: Layout) -> list[int]:
    """The axes with factors of channels."""
    return [place for place, axis in enumerate(layout) if any(order is not None for order, _ in axis)]


def is_plain(layout: Layout) -> bool:
    """Whether all channels lie on one axis, in their order, and nothing else does."""
    axes = channel_axes(layout)
    if len(axes) != 1:
        return False
    factors = layout[axes[0]]
    return all(order is not None for order, _ in factors) and list(factors) == orders(layout)


def numbers(layout: Layout, axis: int) -> list[int]:
    """(size of an axis,) which channel lies at each of its places, where all are on it."""
    strides: dict[tuple[int, ...] | None, int] = {}
    stride = 1
    for order, size in reversed(orders(layout)):
        strides[order] = stride
        stride *= size
    places = itertools.product(*(range(size) for _, size in layout[axis]))
    weights = [strides.get(order, 0) for order, _ in layout[axis]]
    return [sum(weight * digit for weight, digit in zip(weights, each, strict=True)) for each in places]


def viewed(layout: Layout, after: Shape) -> Layout | None:
    """The layout when numbers are laid out in another shape; ``None`` where an axis would be torn apart unevenly."""
    waiting: list[Factor] = []
    for order, size in [factor for axis in layout for factor in axis if factor[1] > 1][::-1]:
        if waiting and order is None and waiting[-1][0] is None:
            waiting[-1] = (None, size * waiting[-1][1])
        else:
            waiting.append((order, size))
    found: list[tuple[Factor, ...]] = []
    for long_axis in after:
        axis, size = list[Factor](), long_axis
        while size > 1:
            if not waiting:
                return None
            order, long = waiting.pop()
            if long > size:
                if long % size:
                    return None
                waiting.append((None if order is None else (*order, 1), long // size))
                order, long = (None if order is None else (*order, 0)), size
            elif size % long:
                return None
            axis.append((order, long))
            size //= long
        found.append(tuple(axis))
    return None if waiting else tuple(found)


def carried(step: Any, layout: Layout, number: int) -> Layout | None:  # noqa: PLR0911 - a line for each kind of step
    """The layout after a step that is no product, of what one of its inputs brings; ``None`` where it is not known.

    Args:
        step: The step.
        layout: Of the input.
        number: Which input.
    """
    kind, after = kind_of(step), shape_of(step, 0)
    if kind in _VIEWS:
        return viewed(layout, after)
    if kind == "Permute":
        return tuple(layout[axis_of(each, len(layout))] for each in step._saved_dims)
    if kind in ("Transpose", "T"):
        one, two = (0, 1) if kind == "T" else (step._saved_dim0, step._saved_dim1)
        axes = list(layout)
        one, two = axis_of(one, len(axes)), axis_of(two, len(axes))
        axes[one], axes[two] = axes[two], axes[one]
        return tuple(axes)
    if kind in ("Unsqueeze", "Stack"):
        place = axis_of(step._saved_dim, len(after))
        return (*layout[:place], (), *layout[place:])
    if kind == "Squeeze":
        return viewed(layout, after)
    if kind in ("Roll", "Flip") and {axis_of(each, len(layout)) for each in step._saved_dims} & set(
        channel_axes(layout)
    ):
        return None
    if kind in ("Select", "Unbind"):
        place = axis_of(step._saved_dim, len(layout))
        apart = [each for each in layout[place] if each[0] is not None]
        if apart and apart[:1] != orders(layout)[:1]:
            return None  # the parts lie between one another
        return (*layout[:place], *layout[place + 1 :])
    return _aligned(step, layout, number, after)


def _aligned(step: Any, layout: Layout, number: int, after: Shape) -> Layout | None:
    """After a step that computes place by place, or along axes without channels."""
    before = _before(step, number) or tuple(math.prod(size for _, size in axis) for axis in layout)
    if len(before) != len(layout) or not after:
        return None
    axes: list[tuple[Factor, ...] | None] = list(layout)
    if len(before) > len(after):
        gone = {axis_of(each, len(before)) for each in _dims(step)}
        if len(before) - len(gone) != len(after) or gone & set(channel_axes(layout)):
            return None
        axes = [axis for place, axis in enumerate(layout) if place not in gone]
    axes[:0] = [None] * (len(after) - len(axes))
    found = []
    for size, axis in zip(after, axes, strict=True):
        if axis and any(order is not None for order, _ in axis):
            if math.prod(each for _, each in axis) not in (size, 1) and size != 1:
                return None
            found.append(axis if math.prod(each for _, each in axis) == size else _factors((0,), size))
        else:
            found.append(_factors(None, size))
    return tuple(found)


def product(  # noqa: PLR0911 - a line for each kind of product
    step: Any, layouts: Sequence[Layout | None]
) -> tuple[Layout | None, list[tuple[int, int] | None]] | None:
    """The layout after a product of matrices or attention, and for each input how channels pass.

    Heads are what inputs have in common on the axes of the batch. They pass as wholes: so many channels of the input
    are one head, and so many of what comes out. Without heads the channels that are summed over only go together.

    Args:
        step: The step.
        layouts: Of its inputs, ``None`` where one has no channels.

    Returns:
        The layout, or ``None`` where no channels come out; per input the two block sizes, or ``None`` where nothing
        passes. And ``None`` for all where that is not known.
    """
    attention = _ATTENTION in name_of(step)
    shapes = [input_shape(step, place) for place in range(len(layouts))]
    known = [(number, layout) for number, layout in enumerate(layouts) if layout is not None and orders(layout)]
    after = shape_of(step, 0)
    if not known or any(shapes[number] is None or len(layout) != len(after) for number, layout in known):
        return None
    heads = {width(layout[:-2]) for _, layout in known}
    if len(heads) != 1:
        return None
    (count,) = heads
    last = [number for number in ((2,) if attention else (1,)) if number < len(layouts)]
    sides = [(place, -1) for place in last] + ([] if attention else [(0, -2)])
    outer = [(place, side) for place, side in sides if (one := layouts[place]) is not None and orders((one[side],))]
    if count > 1:
        if any(_leading(layout) != count for _, layout in known):
            return None
        whole = next(layout for _, layout in known)
        axes: list[tuple[Factor, ...]] = [_marked(axis, 0) for axis in whole[:-2]]
        axes += [_factors(None, after[-2]), _factors(None, after[-1])]
        for number, side in outer:
            axes[side] = _marked((layouts[number] or ())[side], 1 if side == -2 else 2)
        made = tuple(axes)
        block = width(made) // count
        passing: list[tuple[int, int] | None] = [None] * len(layouts)
        for number, layout in known:
            passing[number] = (width(layout) // count, block)
        return made, passing
    if len(outer) == 1 and len(known) == 1:
        ((number, side),) = outer
        alone = [_factors(None, size) for size in after]
        alone[side] = (layouts[number] or ())[side]
        return tuple(alone), [(1, 1) if place == number else None for place in range(len(layouts))]
    if not outer and len(known) == 2 and len({width(layout) for _, layout in known}) == 1:
        return None, [(1, 1) if any(place == number for number, _ in known) else None for place in range(len(layouts))]
    return None


def _leading(layout: Layout) -> int:
    """How many heads come first in the order of channels; 0 where they do not."""
    inside = orders(layout[:-2])
    return math.prod(size for _, size in inside) if inside == orders(layout)[: len(inside)] else 0


def _marked(axis: tuple[Factor, ...], mark: int) -> tuple[Factor, ...]:
    return tuple((None if order is None else (mark, *order), size) for order, size in axis)


def _factors(order: tuple[int, ...] | None, size: int) -> tuple[Factor, ...]:
    return ((order, size),) if size > 1 or order is not None else ()


def _before(step: Any, number: int) -> Shape:
    return tuple(getattr(step, "_saved_self_sym_sizes", None) or input_shape(step, number) or ())


def _dims(step: Any) -> tuple[int, ...]:
    dims = getattr(step, "_saved_dim", None)
    return (dims,) if isinstance(dims, int) else tuple(dims or ())
