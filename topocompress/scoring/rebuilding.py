"""What the channels that stay can say of those that go: the order that leaves least unsaid. Pure torch and numpy.

Reconstruction lets the readers of a layer say what is gone by what is there. So a filter is worth what no linear
mixture of the others gives: group-wise optimal brain surgeon (Hassibi & Stork 1992; Frantar & Alistarh 2022,
arXiv:2208.11580; Kurtic et al. 2023, arXiv:2302.04089) on the maps themselves, for any reader, weighted by how strongly
what is watched reacts to each map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from torch import Tensor

_RIDGE = 1e-3  # of the mean variance of a channel, at least
_TINY = 1e-12
_NOTHING = 1e-30  # next to any loss, whatever the units of the outputs
_LOOKED_AT = 32  # units whose costs are kept exact at a time, at least


@dataclass(kw_only=True)
class Moments:
    """What is known of one layer's maps where they are read.

    Attributes:
        square: (channels, channels) Σ (a − shift)(a − shift)ᵀ over all positions and samples.
        total: (channels,) Σ (a − shift).
        slope: (channels,) Σ g², over draws too, with g the gradient of what is watched.
        rows: Positions · samples.
        shift: (channels,) the mean of the first samples, so that a large mean does not drown the spread.
    """

    square: Tensor
    total: Tensor
    slope: Tensor
    rows: int = 0
    shift: Tensor | None = None

    @classmethod
    def none(cls, channels: int) -> Moments:
        """Nothing seen yet."""
        zeros = torch.zeros(channels, dtype=torch.float64)
        return cls(square=torch.zeros(channels, channels, dtype=torch.float64), total=zeros, slope=zeros.clone())

    def add(self, maps: Tensor) -> None:
        """Add (samples, channels, positions) maps."""
        flat = maps.transpose(0, 1).flatten(1)
        if self.shift is None:
            self.shift = flat.double().mean(dim=1).cpu()
        flat = (flat.double() - self.shift.to(flat.device)[:, None]).to(flat.dtype)
        self.square += (flat @ flat.t()).double().cpu()
        self.total += flat.double().sum(dim=1).cpu()
        self.rows += flat.shape[1]

    @property
    def mean(self) -> Tensor:
        """(channels,)."""
        return self.total / max(1, self.rows) + (0.0 if self.shift is None else self.shift)

    @property
    def ridged(self) -> Tensor:
        """(channels, channels) covariance, with a ridge that grows as there are fewer rows for so many channels."""
        off = self.total / max(1, self.rows)
        spread = self.square / max(1, self.rows) - torch.outer(off, off)
        strength = max(_RIDGE, len(spread) / max(1, self.rows)) * float(spread.diagonal().mean())
        return spread + max(strength, _TINY) * torch.eye(len(spread), dtype=spread.dtype)


@dataclass
class _Layer:
    """A layer while units go: the inverse of the covariance, and what is still said of each channel.

    Channels of a unit are padded to as many as the largest unit has, by ones that are alone and weigh nothing.
    """

    inverse: Tensor
    said: Tensor
    index: Tensor

    @classmethod
    def begun(cls, moments: Moments, units: Sequence[Sequence[int]]) -> _Layer:
        channels, most = len(moments.total), max(map(len, units))
        size = channels + most
        inverse, said = torch.eye(size, dtype=torch.float64), torch.zeros(size, channels, dtype=torch.float64)
        inverse[:channels, :channels] = torch.linalg.inv(moments.ridged)
        said[:channels] = torch.diag(moments.slope.sqrt())
        padded = [[*unit, *range(channels, size)][:most] for unit in units]
        return cls(inverse=inverse, said=said, index=torch.tensor(padded))

    def costs(self, units: Tensor) -> Tensor:
        """(units,) weighted squares that nobody says any more without each."""
        index = self.index[units]
        blocks = self.inverse[index[:, :, None], index[:, None, :]]
        said = self.said[index]
        left: Tensor = (said * torch.linalg.solve(blocks, said)).sum(dim=(1, 2))
        return left

    def part(self, units: Tensor) -> _Layer:
        """A layer of some units alone, as far as they concern each other."""
        index = self.index[units]
        rows = index.flatten()
        inverse, padding = self.inverse[rows[:, None], rows], rows >= self.said.shape[1]
        inverse[padding], inverse[:, padding], inverse[padding, padding] = 0, 0, 1  # every unit has its own
        return _Layer(inverse=inverse, said=self.said[rows], index=torch.arange(len(rows)).view(index.shape))

    def remove(self, units: Tensor) -> None:
        """Let the others say what they can of some units."""
        index = torch.unique(self.index[units])
        block = self.inverse[index[:, None], index]
        pull = torch.linalg.solve(block, self.inverse[index]).t()
        self.said -= pull @ self.said[index]
        self.inverse -= pull @ self.inverse[index]
        # Those that are gone concern nobody any more; so do the padding ones, as before.
        self.inverse[index], self.inverse[:, index], self.said[index] = 0, 0, 0
        self.inverse[index, index] = 1


def order_of_least(layers: Sequence[tuple[Moments, Sequence[Sequence[int]]]], worth: NDArray[np.float64]) -> list[int]:
    """Units in the order in which they go: each time the one that leaves least unsaid, its worth added.

    Args:
        layers: Moments of each layer of a group, and the channels of each unit there.
        worth: (units,) of each by itself, in units of the mean cost at the start.

    Returns:
        All units, first to go first.
    """
    state = [_Layer.begun(moments, units) for moments, units in layers]
    extra = torch.from_numpy(np.asarray(worth, dtype=np.float64))
    left = torch.arange(len(extra))

    def costs(of: Sequence[_Layer], units: Tensor) -> Tensor:
        return torch.stack([layer.costs(units) for layer in of]).sum(dim=0)

    extra = extra * costs(state, left).mean()
    order: list[int] = []
    while len(left):
        now = costs(state, left) + extra[left]
        several = max(_LOOKED_AT, len(extra) // 8)
        near = now.topk(min(several, len(left)), largest=False).indices
        beyond = float(now.sort().values[len(near)]) if len(near) < len(left) else np.inf
        looked_at = left[near]
        parts, alive, gone = [layer.part(looked_at) for layer in state], torch.arange(len(near)), list[int]()
        while len(alive):  # a cost rises as others go, so what is not looked at cannot have become the least
            each = costs(parts, alive) + extra[looked_at[alive]]
            least = int(each.argmin())
            if gone and float(each[least]) > beyond:
                break
            gone.append(int(alive[least]))
            for part in parts:
                part.remove(alive[least : least + 1])
            alive = alive[torch.arange(len(alive)) != least]
        chosen = looked_at[gone]
        for layer in state:
            layer.remove(chosen)
        order += chosen.tolist()
        left = left[~torch.isin(left, chosen)]
    return order


@dataclass(kw_only=True)
class Unsaid:
    """What is left unsaid of one layer without some of its channels.

    Attributes:
        gone: (g,) channels that are gone.
        kept: (k,) the others.
        mixture: (g, k) each that is gone as a mixture of the others.
        offset: (g,) what the mixture needs besides.
        effects: What has been found for each batch, (draws, samples).
    """

    gone: Tensor
    kept: Tensor
    mixture: Tensor
    offset: Tensor
    effects: list[Tensor] = field(default_factory=list)

    @classmethod
    def without(cls, moments: Moments, gone: Sequence[int]) -> Unsaid:
        """The best mixture there is."""
        there = torch.ones(len(moments.total), dtype=torch.bool)
        there[list(gone)] = False
        kept, missing, ridged = there.nonzero()[:, 0], (~there).nonzero()[:, 0], moments.ridged
        mixture = torch.linalg.solve(ridged[kept[:, None], kept], ridged[kept[:, None], missing]).t()
        offset = moments.mean[missing] - mixture @ moments.mean[kept]
        return cls(gone=missing, kept=kept, mixture=mixture.float(), offset=offset.float())

    def effect(self, products: Tensor, slopes: Tensor) -> Tensor:
        """(samples,) how much what is watched falls, to first order, by what nobody says.

        Args:
            products: (samples, channels, channels) Σ g aᵀ over positions.
            slopes: (samples, channels) Σ g.
        """
        own = products[:, self.gone, self.gone].sum(dim=1)
        mixed = products[:, self.gone[:, None], self.kept] * self.mixture.to(products)
        return own - mixed.sum(dim=(1, 2)) - slopes[:, self.gone] @ self.offset.to(slopes)


def losses_of(counts: Sequence[int], losses: Sequence[float]) -> NDArray[np.float64]:
    """(units,) what each unit adds to the loss, in the order in which they go; rising, and never the same twice.

    Args:
        counts: Numbers of units that are gone where the loss is known, rising, the last all of them.
        losses: The loss there.
    """
    ends, known = np.array([0, *counts], dtype=np.float64), np.array([0.0, *losses])
    widths = np.diff(ends)
    slopes = isotonic_regression(np.diff(known) / widths, weights=widths).x.clip(min=0)
    middles = (ends[1:] + ends[:-1]) / 2
    places = np.arange(counts[-1]) + 0.5
    found = np.interp(places, [0, *middles], [0, *slopes])
    rising: NDArray[np.float64] = found + (found[-1] or _NOTHING) * 1e-9 * places
    return rising
