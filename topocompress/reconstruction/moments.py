"""Least squares in closed form: what a layer reads and what it is to give, gathered row by row.

By second moments where there are more rows than features; else, or where their matrix would not fit in memory, by the
rows themselves: the same solution from products of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Strengths that are tried, as a share of the mean square of what is read."""

_FIRST = RIDGES.index(1e-1)
_TINY = 1e-30
_BLOCK, _BLOCKS = 256, 6  # of a symmetric product: features a block at least, and blocks at most
_GAIN = 1e-3  # an error that falls by less has not fallen


class System(Protocol):
    """Normal equations, for any strength."""

    def at(self, ridge: float) -> Tensor:
        """The weights of one strength; see :func:`fit`."""


class Evidence(Protocol):
    """Rows of what is read, x, and of what is to be given, y; weights are (groups, features + 1, outputs)."""

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add (n, groups, features) rows and (n, groups, outputs of a group) targets."""

    def absorb(self, other: Self) -> None:
        """Take over what another has; nothing is left of it."""

    def variance(self) -> float:
        """Of the targets, summed over outputs."""

    def error(self, weights: Tensor) -> float:
        """Mean square of y − (x, 1) · weights, summed over outputs."""

    def system(self, weights: Tensor, *, offset: bool) -> System:
        """What is solved for weights near these; see :func:`fit`."""


class Moments:
    """Evidence as sums over rows of products of x with a 1 behind it, and of y.

    Rows are multiplied when as many have come as there are features: a sum of large products is the quicker.
    """

    def __init__(self, groups: int, features: int, outputs: int, device: torch.device) -> None:
        self._square = torch.zeros(groups, features + 1, features + 1, dtype=torch.float64, device=device)
        self._cross = torch.zeros(groups, features + 1, outputs, dtype=torch.float64, device=device)
        self._power = torch.zeros(groups, outputs, dtype=torch.float64, device=device)
        self._count = self._waiting = 0
        self._rows: list[tuple[Tensor, Tensor]] = []

    def add(self, x: Tensor, y: Tensor) -> None:
        """See :class:`Evidence`."""
        self._rows.append((x, y))
        self._waiting += len(x)
        if self._waiting >= self._square.shape[1]:
            self._settle()

    def _settle(self) -> None:
        """Multiply the rows that wait."""
        if self._rows:
            x, y = (torch.cat(parts).transpose(0, 1) for parts in zip(*self._rows, strict=True))
            self._rows, self._waiting = [], 0
            x = torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)
            _add_square(self._square, x)
            self._cross += x.transpose(1, 2) @ y
            self._power += y.double().square().sum(dim=1)
            self._count += x.shape[1]

    def absorb(self, other: Moments) -> None:
        """See :class:`Evidence`."""
        self._settle()
        other._settle()
        self._square += other._square
        self._cross += other._cross
        self._power += other._power
        self._count += other._count
        del other._square

    def variance(self) -> float:
        """See :class:`Evidence`."""
        self._settle()
        count = max(1, self._count)
        return float((self._power / count - (self._cross[:, -1] / count).square()).sum().clamp_min(0))

    def error(self, weights: Tensor) -> float:
        """See :class:`Evidence`."""
        self._settle()
        fitted = (weights * (self._square @ weights)).sum(dim=1)
        crossed = (weights * self._cross).sum(dim=1)
        return float(((fitted - 2 * crossed + self._power) / max(1, self._count)).clamp_min(0).sum())

    def system(self, weights: Tensor, *, offset: bool) -> _Normal:
        """See :class:`Evidence`."""
        self._settle()
        count, old = max(1, self._count), weights[:, :-1]
        gram, product = self._square[:, :-1, :-1] / count, self._cross[:, :-1] / count
        mean_x, mean_y = self._square[:, :-1, -1:] / count, self._cross[:, -1:] / count
        if offset:
            gram.baddbmm_(mean_x, mean_x.transpose(1, 2), alpha=-1)
            product -= mean_x @ mean_y
        else:
            product -= mean_x @ weights[:, -1:]
        product -= gram @ old

        def finished(change: Tensor) -> Tensor:
            new = old + change
            return torch.cat([new, mean_y - mean_x.transpose(1, 2) @ new if offset else weights[:, -1:]], dim=1)

        return _Normal(gram, product, gram.diagonal(dim1=1, dim2=2).mean(dim=1), finished)


def _add_square(total: Tensor, rows: Tensor) -> None:
    """Add rowsᵀ · rows to (groups, features, features) in place: blocks below the diagonal, and their mirror images."""
    features = rows.shape[2]
    step = max(_BLOCK, -(-features // _BLOCKS))
    for start in range(0, features, step):
        stop = min(start + step, features)
        part = rows[..., start:stop].transpose(1, 2) @ rows[..., :stop]
        total[:, start:stop, :stop] += part
        total[:, :start, start:stop] += part[..., :start].transpose(1, 2)


class Rows:
    """Evidence as it came."""

    def __init__(self) -> None:
        self._x: list[Tensor] = []
        self._y: list[Tensor] = []

    def add(self, x: Tensor, y: Tensor) -> None:
        """See :class:`Evidence`."""
        self._x.append(x)
        self._y.append(y)

    def absorb(self, other: Rows) -> None:
        """See :class:`Evidence`."""
        self._x += other._x
        self._y += other._y

    def _all(self) -> tuple[Tensor, Tensor]:
        """(groups, n, features) and (groups, n, outputs of a group)."""
        return torch.cat(self._x).transpose(0, 1), torch.cat(self._y).transpose(0, 1)

    def variance(self) -> float:
        """See :class:`Evidence`."""
        _, y = self._all()
        return float(y.double().var(dim=1, correction=0).sum()) if y.shape[1] else 0.0

    def error(self, weights: Tensor) -> float:
        """See :class:`Evidence`."""
        x, y = self._all()
        left = y - (x @ weights[:, :-1].to(x) + weights[:, -1:].to(x))
        return float(left.double().square().sum()) / max(1, x.shape[1])

    def system(self, weights: Tensor, *, offset: bool) -> _Normal:
        """See :class:`Evidence`."""
        x, y = self._all()
        old, bias = weights[:, :-1].to(x), weights[:, -1:].to(x)
        mean_x = x.mean(dim=1, keepdim=True) if offset else torch.zeros_like(x[:, :1])
        mean_y = y.mean(dim=1, keepdim=True) if offset else bias
        near = x - mean_x
        left = (y - mean_y) - near @ old
        gram = (near @ near.transpose(1, 2)).double()
        trace = gram.diagonal(dim1=1, dim2=2).sum(dim=1)

        def finished(solved: Tensor) -> Tensor:
            new = old + near.transpose(1, 2) @ solved.to(x)
            return torch.cat([new, mean_y - mean_x @ new if offset else bias], dim=1).to(weights)

        # Of the sum over rows, not their mean: so the strength is as many times the mean as there are rows.
        return _Normal(gram, left.double(), trace / x.shape[2], finished)


class _Normal:
    """Normal equations whose right side is made once, whatever the strength.

    Args:
        gram: (groups, n, n) matrix; its diagonal changes while a strength is solved for.
        right: (groups, n, outputs).
        unit: (groups,) what a strength of 1 adds to the diagonal.
        finished: Makes weights of a solution.
    """

    def __init__(self, gram: Tensor, right: Tensor, unit: Tensor, finished: Callable[[Tensor], Tensor]) -> None:
        self._gram, self._right, self._unit, self._finished = gram, right, unit, finished

    def at(self, ridge: float) -> Tensor:
        """See :class:`System`."""
        diagonal = self._gram.diagonal(dim1=1, dim2=2)
        bare = diagonal.clone()
        diagonal += (ridge * self._unit).clamp_min(_TINY)[:, None]
        solved = _solve(self._gram, self._right)
        diagonal.copy_(bare)
        return self._finished(solved)


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """matrix⁻¹ · right for each group; 0 where the matrix is not positive definite."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    found = torch.cholesky_solve(right, factor)
    return torch.where((failed == 0)[:, None, None] & found.isfinite(), found, torch.zeros_like(found))


@dataclass(frozen=True, kw_only=True)
class Fit:
    """New weights and what they are worth.

    Attributes:
        weights: (groups, features + 1, outputs of a group), the offset last.
        ridge: The strength that was chosen; ``None`` where the old weights are better.
        before: Mean square error of the old weights on rows held out, over the variance there.
        after: The same of the new ones.
    """

    weights: Tensor
    ridge: float | None
    before: float
    after: float


def fit(seen: Evidence, held: Evidence, weights: Tensor, *, offset: bool) -> Fit:
    """The weights with the least error that stay near the old ones; how near is chosen by rows held out.

    argmin mean ‖y − x W − b‖² + λ ‖W − W₀‖², as a change of W₀ by the normal equations, with λ the ridge times the mean
    square of a feature. The ridge is the one with the least error there, as far as that falls and then rises.

    Args:
        seen: The rows that are fitted, and in the end the others with them; errors are over the variance there, or of
            the others if that is larger.
        held: Others; nothing is left of them.
        weights: (groups, features + 1, outputs of a group) old weights, the offset last.
        offset: Whether the offset may change.
    """
    scale = max(held.variance(), seen.variance(), _TINY)
    before = held.error(weights) / scale
    system: System | None = seen.system(weights, offset=offset)
    errors: dict[int, float] = {}

    def error(number: int) -> float:
        if number not in errors and system is not None:
            errors[number] = held.error(system.at(RIDGES[number])) / scale
        return errors[number]

    best = _lowest(error, len(RIDGES), _FIRST)
    after, system = errors[best], None  # two of its matrices need not be there at once
    if not after < before * (1 - _GAIN):
        return Fit(weights=weights, ridge=None, before=before, after=before)
    seen.absorb(held)
    new = seen.system(weights, offset=offset).at(RIDGES[best])
    return Fit(weights=new, ridge=RIDGES[best], before=before, after=after)


def _lowest(value: Callable[[int], float], count: int, start: int) -> int:
    """Where a function that falls and then rises is lowest among 0..count - 1, from a start near it."""
    best = start
    for step in (1, -1):
        while 0 <= best + step < count and value(best + step) < value(best):
            best += step
    return best
