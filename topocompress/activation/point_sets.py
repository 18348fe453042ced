"""Two-class data sets whose topology is known: how many pieces, loops and voids each class has.

The first three follow Naitzat, Zhitnikov & Lim, "Topology of Deep Neural Networks", JMLR 21(184), 2020, section 5; the
measures are ours, and so are the grids of annuli, which are larger. Between the classes lies a gap that belongs to
neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topocompress.errors import DataError

Points = NDArray[np.floating[Any]]
Labelled = tuple[NDArray[np.float32], NDArray[np.int64]]

_DRAWN = 1 << 16
_TIE_BREAK = 0.02


@dataclass(frozen=True, kw_only=True)
class KnownTopology:
    """Two disjoint regions of the plane or of space.

    Attributes:
        name: What it is called.
        betti: Betti numbers of class 0 and of class 1, from β0 upward.
        corner: The regions lie within ±corner, one number per axis.
        place: (points, axes) → (points,) class 0 or 1, -1 for neither.
        spacing: A lattice this fine represents both regions, see :meth:`cover`.
        epsilon: Scale at which the Vietoris–Rips complex of the cover has the Betti numbers of the regions.
    """

    name: str
    betti: tuple[tuple[int, ...], tuple[int, ...]]
    corner: tuple[float, ...]
    place: Callable[[Points], NDArray[np.int64]]
    spacing: float
    epsilon: float

    @property
    def total_betti(self) -> int:
        """Sum of all Betti numbers of both classes."""
        return sum(map(sum, self.betti))

    def sample(self, count: int, *, seed: int) -> Labelled:
        """Points drawn uniformly from the regions, as many from one class as from the other.

        Args:
            count: How many in all, at least 2; class 0 gets the odd one.
            seed: Seed of the draw.

        Returns:
            Points (count, axes) float32 and labels (count,) int64, in random order.

        Raises:
            DataError: ``count`` is below 2.
        """
        if count < 2:
            raise DataError(f"{self.name}: a sample of {count} points cannot hold both classes", hint="Ask for more.")
        rng = np.random.default_rng(seed)
        wanted = (count - count // 2, count // 2)
        found: list[list[Points]] = [[], []]
        while any(sum(map(len, found[label])) < wanted[label] for label in (0, 1)):
            drawn = rng.uniform(-1, 1, (_DRAWN, len(self.corner))) * self.corner
            labels = self.place(drawn)
            for label in (0, 1):
                found[label].append(drawn[labels == label])
        points = np.concatenate([np.concatenate(found[label])[: wanted[label]] for label in (0, 1)])
        labels = np.repeat((0, 1), wanted)
        order = rng.permutation(count)
        return points[order].astype(np.float32), labels[order].astype(np.int64)

    def cover(self) -> Labelled:
        """A lattice through the regions, dense enough to show their topology at ``epsilon``.

        Points are moved by a little, always the same, so that no two distances are equal.

        Returns:
            Points (points, axes) float32 and labels (points,) int64.
        """
        steps = [np.arange(-int(side / self.spacing), int(side / self.spacing) + 1) for side in self.corner]
        lattice = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, len(steps)) * self.spacing
        labels = self.place(lattice)
        inside = labels >= 0
        shift = np.random.default_rng(0).uniform(-1, 1, lattice.shape) * _TIE_BREAK * self.spacing
        return (lattice + shift)[inside].astype(np.float32), labels[inside]


def nine_discs() -> KnownTopology:
    """D-I: nine discs (class 0) in the holes of a nine-holed disc (class 1). β = (9, 0) and (1, 9)."""

    def place(points: Points) -> NDArray[np.int64]:
        near = np.linalg.norm(points - _nearest_cell(points, 3), axis=1)
        inside = np.linalg.norm(points, axis=1) < 2.0
        return _classes(near < 0.25, inside & (near > 0.35))

    return KnownTopology(
        name="nine discs", betti=((9, 0), (1, 9)), corner=(2.0, 2.0), place=place, spacing=0.1, epsilon=0.15
    )


def linked_tori() -> KnownTopology:
    """D-II: nine pairs of solid tori, each of class 0 linked with one of class 1. β = (9, 9, 0) and (9, 9, 0)."""
    large, small, pitch = 0.4, 0.14, 1.6

    def place(points: Points) -> NDArray[np.int64]:
        x, y, z = (points - pitch * _nearest_cell(points / pitch, 3)).T
        lying = np.hypot(np.hypot(x + large / 2, y) - large, z)
        standing = np.hypot(np.hypot(x - large / 2, z) - large, y)
        return _classes(lying < small, standing < small)

    side = pitch + large + small
    return KnownTopology(
        name="linked tori",
        betti=((9, 9, 0), (9, 9, 0)),
        corner=(side + large / 2, side, large + small),
        place=place,
        spacing=0.08,
        epsilon=0.145,
    )


def nested_spheres() -> KnownTopology:
    """D-III: nine times a ball in a shell in a shell, the middle one of class 1. β = (18, 0, 9) and (9, 0, 9)."""

    def place(points: Points) -> NDArray[np.int64]:
        radius = np.linalg.norm(points - _nearest_cell(points, 3), axis=1)
        outer = (radius > 0.35) & (radius < 0.45)
        return _classes((radius < 0.11) | outer, (radius > 0.18) & (radius < 0.28))

    return KnownTopology(
        name="nested spheres",
        betti=((18, 0, 9), (9, 0, 9)),
        corner=(1.5, 1.5, 0.5),
        place=place,
        spacing=0.06,
        epsilon=0.11,
    )


def annuli(cells: int = 7, *, dimension: int = 2) -> KnownTopology:
    """A grid of annuli (class 0) and its complement (class 1); the sum of all Betti numbers is 4·cells² + 1.

    In the plane the annuli have β = (c, c) and the complement in the square, c discs and what surrounds the annuli,
    (c + 1, c), for c = cells². In space the annuli are thickened to solid rings in a slab: (c, c, 0), and the
    complement, which passes through every ring and around it, (1, c, c).

    Args:
        cells: Annuli to a side. From 7 on the sum is above 150.
        dimension: 2 or 3.

    Raises:
        DataError: No cell, or another dimension.
    """
    if cells < 1 or dimension not in (2, 3):
        raise DataError(
            f"annuli: {cells} cells in dimension {dimension}", hint="Ask for 1 cell or more in dimension 2 or 3."
        )
    count, side = cells**2, cells / 2
    if dimension == 2:

        def flat(points: Points) -> NDArray[np.int64]:
            radius = np.linalg.norm(points - _nearest_cell(points, cells), axis=1)
            inside = np.abs(points).max(axis=1) < side
            return _classes((radius > 0.18) & (radius < 0.32), inside & ((radius < 0.12) | (radius > 0.38)))

        return KnownTopology(
            name=f"{cells}×{cells} annuli",
            betti=((count, count), (count + 1, count)),
            corner=(side, side),
            place=flat,
            spacing=0.07,
            epsilon=0.105,
        )

    corner = (side + 0.05, side + 0.05, 0.45)

    def thick(points: Points) -> NDArray[np.int64]:
        offset = points[:, :2] - _nearest_cell(points[:, :2], cells)
        # Rings with a square section: how far a point is from the ring's core, by the larger of the two directions.
        depth = np.maximum(np.abs(np.linalg.norm(offset, axis=1) - 0.25), np.abs(points[:, 2]))
        inside = (np.abs(points) < corner).all(axis=1)
        return _classes(depth < 0.1, inside & (depth > 0.16))

    return KnownTopology(
        name=f"{cells}×{cells} rings",
        betti=((count, count, 0), (1, count, count)),
        corner=corner,
        place=thick,
        spacing=1 / 6,
        epsilon=0.305,
    )


def naitzat() -> tuple[KnownTopology, KnownTopology, KnownTopology]:
    """The three sets of the paper, D-I to D-III."""
    return nine_discs(), linked_tori(), nested_spheres()


def _nearest_cell(points: Points, cells: int) -> Points:
    """The middle of the nearest of cells × cells unit cells around the origin; further axes are 0."""
    found = np.zeros_like(points)
    last = (cells - 1) / 2
    found[:, :2] = np.clip(np.round(points[:, :2] + last), 0, cells - 1) - last
    return found


def _classes(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.where(first, 0, np.where(second, 1, -1)).astype(np.int64)
