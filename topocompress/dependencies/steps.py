"""Steps in a trace of gradients: what they are called, the shapes they keep, and where axes are after them."""

from __future__ import annotations

import math
from typing import Any

Shape = tuple[int, ...]
_REDUCTIONS = ("Sum", "Mean", "LinalgVectorNorm", "Norm", "Var", "Std", "Max", "Amax", "Min", "Amin")
"""What the steps of sums, means, norms and extremes over some axes are called."""


def name_of(step: Any) -> str:
    """What a step is called, ``CatBackward0`` say; empty where nobody knows."""
    return str(step.name()) if hasattr(step, "name") else ""


def axis_of(dim: int, axes: int) -> int:
    """An axis counted from the front; the trace keeps negative ones as numbers without sign."""
    return (dim - 2**64 if dim >= 2**63 else dim) % axes if axes else 0


def shape_of(step: Any, number: int) -> Shape:
    """The shape of what a step computes; empty where it is not known."""
    known = getattr(step, "_input_metadata", None) or ()
    return tuple(int(size) for size in known[number].shape) if len(known) > number else ()


def input_shape(step: Any, number: int) -> Shape | None:
    """The shape of one of a step's inputs; ``None`` for a constant."""
    if len(step.next_functions) <= number:
        return None
    before, place = step.next_functions[number]
    if before is None:
        return None
    return tuple(before.variable.shape) if hasattr(before, "variable") else shape_of(before, place)


def moved(step: Any, axis: int, number: int) -> int | None:
    """Where an axis of one of a step's inputs is in what it computes; ``None`` where it is no axis of its own any more.

    Args:
        step: The step.
        axis: Counted from the front.
        number: Which input.
    """
    name, after = name_of(step), shape_of(step, 0)
    before = _shape_before(step, number)
    if not before or not after:
        return axis
    order = list(range(len(before)))  # which axis comes to stand at each place
    if name.startswith("Permute"):
        order = [axis_of(each, len(before)) for each in step._saved_dims]
    elif name.startswith("Transpose"):
        one, two = (axis_of(each, len(before)) for each in (step._saved_dim0, step._saved_dim1))
        order[one], order[two] = two, one
    elif name.startswith("Unsqueeze"):
        order.insert(axis_of(step._saved_dim, len(after)), -1)
    elif "View" in name:
        order = _viewed(axis, before, after)
    elif len(before) < len(after):  # put beside something with more axes, which are aligned at the end
        order = [-1] * (len(after) - len(before)) + order
    elif len(before) > len(after):
        order = [each for each in order if each not in _axes(step, before)]
    return order.index(axis) if axis in order else None


def _viewed(axis: int, before: Shape, after: Shape) -> list[int]:
    """Which axis comes to stand where when numbers are laid out in another shape, as far as it concerns one axis."""
    if math.prod(before) == before[axis] and before[axis] in after:  # all other axes are 1 long
        return [-1] * after.index(before[axis]) + [axis]
    kept = before[:axis] == after[:axis] and len(after) > axis
    return list(range(axis + 1)) if kept and after[axis] in (before[axis], math.prod(before[axis:])) else []


def reduced_axes(step: Any) -> set[int]:
    """The axes along which a step makes one number of many; none where it does not."""
    before = _shape_before(step, 0)
    return _axes(step, before) if before and name_of(step).startswith(_REDUCTIONS) else set()


def _shape_before(step: Any, number: int) -> Shape:
    return tuple(getattr(step, "_saved_self_sym_sizes", None) or input_shape(step, number) or ())


def _axes(step: Any, shape: Shape) -> set[int]:
    """The axes that a step was called with."""
    dims = getattr(step, "_saved_dim", None)
    return {axis_of(each, len(shape)) for each in ((dims,) if isinstance(dims, int) else dims or ())}
