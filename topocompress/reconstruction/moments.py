"""Least squares in closed form: what a layer reads and what it is to give, gathered row by row.

By second moments where there are more rows than features; else, or where their matrix would not fit in memory, by the
rows themselves: the same solution from products of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Strengths that are tried, as a share of the mean square of what is read."""

_TINY = 1e-30
_GAIN = 1e-3  # an error that falls by less has not fallen


class Evidence(Protocol):
    """Rows of what is read, x, and of what is to be given, y; weights are (groups, features + 1, outputs)."""

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add (n, groups, features) rows and (n, groups, outputs of a group) targets."""

    def __add__(self, other: Self) -> Self:
        """Both."""

    def variance(self) -> float:
        """Of the targets, summed over outputs."""

    def error(self, weights: Tensor) -> float:
        """Mean square of y − (x, 1) · weights, summed over outputs."""

    def solved(self, weights: Tensor, ridge: float, *, offset: bool) -> Tensor:
        """One strength's weights; see :func:`fit`."""


class Moments:
    """Evidence as sums over rows of products of x with a 1 behind it, and of y.

    Attributes:
        square: (groups, features + 1, features + 1) Σ x xᵀ.
        cross: (groups, features + 1, outputs of a group) Σ x yᵀ.
        power: (groups, outputs of a group) Σ y².
        count: Rows.
    """

    def __init__(self, groups: int, features: int, outputs: int, device: torch.device) -> None:
        self.square = torch.zeros(groups, features + 1, features + 1, dtype=torch.float64, device=device)
        self.cross = torch.zeros(groups, features + 1, outputs, dtype=torch.float64, device=device)
        self.power = torch.zeros(groups, outputs, dtype=torch.float64, device=device)
        self.count = 0

    def add(self, x: Tensor, y: Tensor) -> None:
        """See :class:`Evidence`."""
        x = torch.cat([x, torch.ones_like(x[..., :1])], dim=-1).transpose(0, 1)
        y = y.transpose(0, 1)
        self.square += (x.transpose(1, 2) @ x).double()
        self.cross += (x.transpose(1, 2) @ y).double()
        self.power += y.double().square().sum(dim=1)
        self.count += x.shape[1]

    def __add__(self, other: Moments) -> Moments:
        total = Moments(len(self.square), self.square.shape[1] - 1, self.cross.shape[2], self.square.device)
        total.square, total.cross = self.square + other.square, self.cross + other.cross
        total.power, total.count = self.power + other.power, self.count + other.count
        return total

    def variance(self) -> float:
        """See :class:`Evidence`."""
        count = max(1, self.count)
        return float((self.power / count - (self.cross[:, -1] / count).square()).sum().clamp_min(0))

    def error(self, weights: Tensor) -> float:
        """See :class:`Evidence`."""
        fitted = (weights * (self.square @ weights)).sum(dim=1)
        crossed = (weights * self.cross).sum(dim=1)
        return float(((fitted - 2 * crossed + self.power) / max(1, self.count)).clamp_min(0).sum())

    def solved(self, weights: Tensor, ridge: float, *, offset: bool) -> Tensor:
        """See :class:`Evidence`."""
        count = max(1, self.count)
        square, cross = self.square / count, self.cross / count
        mean_x, mean_y = square[:, :-1, -1:], cross[:, -1:]
        gram, product = square[:, :-1, :-1], cross[:, :-1]
        if offset:
            gram, product = gram - mean_x @ mean_x.transpose(1, 2), product - mean_x @ mean_y
        else:
            product = product - mean_x @ weights[:, -1:]
        strength = ridge * gram.diagonal(dim1=1, dim2=2).mean(dim=1).clamp_min(_TINY)
        old = weights[:, :-1]
        ridged = gram + torch.diag_embed(strength[:, None].expand(-1, gram.shape[1]))
        new = old + _solve(ridged, product - gram @ old)
        bias = mean_y - mean_x.transpose(1, 2) @ new if offset else weights[:, -1:]
        return torch.cat([new, bias], dim=1)


class Rows:
    """Evidence as it came."""

    def __init__(self) -> None:
        self._x: list[Tensor] = []
        self._y: list[Tensor] = []

    def add(self, x: Tensor, y: Tensor) -> None:
        """See :class:`Evidence`."""
        self._x.append(x)
        self._y.append(y)

    def __add__(self, other: Rows) -> Rows:
        total = Rows()
        total._x, total._y = self._x + other._x, self._y + other._y
        return total

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

    def solved(self, weights: Tensor, ridge: float, *, offset: bool) -> Tensor:
        """See :class:`Evidence`."""
        x, y = self._all()
        old, bias = weights[:, :-1].to(x), weights[:, -1:].to(x)
        mean_x = x.mean(dim=1, keepdim=True) if offset else torch.zeros_like(x[:, :1])
        mean_y = y.mean(dim=1, keepdim=True) if offset else bias
        near = x - mean_x
        left = (y - mean_y) - near @ old
        gram = (near @ near.transpose(1, 2)).double()
        trace = gram.diagonal(dim1=1, dim2=2).sum(dim=1)
        strength = (ridge * trace / x.shape[2]).clamp_min(_TINY)  # of the sum: as many times the mean as there are rows
        ridged = gram + torch.diag_embed(strength[:, None].expand(-1, gram.shape[1]))
        new = old + near.transpose(1, 2) @ _solve(ridged, left.double()).to(x)
        if offset:
            bias = mean_y - mean_x @ new
        return torch.cat([new, bias], dim=1).to(weights)


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
    square of a feature.

    Args:
        seen: The rows that are fitted; errors are over the variance there, or of the others if that is larger.
        held: Others.
        weights: (groups, features + 1, outputs of a group) old weights, the offset last.
        offset: Whether the offset may change.
    """
    scale = max(held.variance(), seen.variance(), _TINY)
    before = after = held.error(weights) / scale
    chosen: float | None = None
    for ridge in RIDGES:
        error = held.error(seen.solved(weights, ridge, offset=offset)) / scale
        if error < after * (1 - _GAIN):
            chosen, after = ridge, error
    new = weights if chosen is None else (seen + held).solved(weights, chosen, offset=offset)
    return Fit(weights=new, ridge=chosen, before=before, after=after)
