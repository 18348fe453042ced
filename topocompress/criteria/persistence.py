"""What removing a filter does to the topology of the network's own outputs."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from topocompress.criteria.base import GradientCriterion
from topocompress.criteria.taylor import checked_looks
from topocompress.errors import CriterionError
from topocompress.topology.trees import spanning_tree
from topocompress.types import Direction

MOST_BATCH, MOST_DRAWS = 100_000, 1_000
"""Of a tree its samples, and how many trees: more would run for ever."""

TUNED = 1000.0
"""``alone`` where fine-tuning follows: so much that the joint change no longer counts."""
REBUILT = 3.0
"""``alone`` where what reads pruned layers is refitted."""
NORM = 0.8
"""Share of the norm in a filter's own worth."""


class Persistence(GradientCriterion):
    """Persistence sensitivity: change of the outputs' H0 persistence without the filter; no labels (higher: keep).

    The outputs of a batch are points. Their H0 persistence is the edge lengths of their minimum spanning tree; the
    objective T is the sum of these lengths, an edge between samples of different predicted classes counted with a
    minus sign (it should be long, an edge within a class short). ∂T/∂z of a sample is the sum of the unit vectors
    along its edges. The effect of a filter on a sample is Σ a · ∂T/∂a over the filter's map a there.

    The score is the root mean square of a filter's effects (the formula of the first order). With ``looks`` above 1
    the *order* within a layer is that of joint removal: see :class:`~topocompress.criteria.base.GradientCriterion`.
    With ``alone`` a filter's worth by itself counts in that order too. The sizes stay those of the first order, least
    to the first to go, so that layers can be compared.

    What filters do together counts as long as the network stays as removal leaves it. Fine-tuning mends most of that,
    and it matters more what the filters that stay are worth by themselves: ``alone``. docs/research/criteria.md has
    figures.

    Where what reads pruned layers is refitted (``rebuilt``), a filter is worth what no mixture of the others' maps says
    in its place. The order is that of group-wise optimal brain surgeon on the maps, weighted by E[(∂T/∂a)²], own worth
    added; the squared score is what a filter adds to the mean square change of T when the others say what they can, so
    that layers can be compared. docs/research/reconstruction.md has figures.

    Works for every network whose output has a class axis. Where it also has spatial axes (segmentation), a sample's
    point is its whole output averaged down to 8 × 8, and its predicted class that of the mean over the pixels. Of a
    detector it is the raw outputs of all heads, averaged down likewise, and its class the strongest number among them.

    Costs ``looks`` (2 with ``rebuilt``) × (one forward and ``draws`` backward passes), and minimum spanning trees of
    ``batch`` points.

    The source is this project; the objective follows the use of H0 persistence as a loss by Hofer, Kwitt, Niethammer
    & Dixit, "Connectivity-Optimized Representation Learning via Persistent Homology", ICML 2019, arXiv:1906.09003.

    Args:
        signed: Whether edges between different predicted classes count with a minus sign.
        batch: Samples per spanning tree. It does not depend on the batches in which the network runs.
        draws: How often the samples are divided anew into batches; each gives every sample other neighbours.
        looks: How often one scoring takes the effects, each time without the filters that go first; 1 for the first
            order alone. No pruning happens in between (that is ``iterations`` of :func:`topocompress.compress`).
        settled: Whether joint removal looks at networks with re-estimated BatchNorm statistics.
        alone: How much a filter's worth by itself counts besides the joint change: λ in
            Σ (drift - c)² + λ · E · w, with E the mean of Σ c² over the filters that are left and w that worth. By
            default 0, 3 with ``rebuilt`` (E the mean of what a single filter leaves unsaid), and 1000 with one look
            where fine-tuning follows (:meth:`before_tuning`). With ``looks=1`` the order is that of
            s² + λ · w · mean s².
        norm: What that worth is made of: w = (1 - norm) · s² / mean s² + norm · n² / mean n², with s a filter's
            first-order score in the whole network and n the L1 norm of its weights.
        rebuilt: Whether filters are judged by what the others cannot say; ``looks`` and ``settled`` do not matter then.
            If ``None``, where what reads them is refitted (:meth:`before_reconstruction`).
        seed: Seed of the division into batches.

    Raises:
        CriterionError: A setting is out of range.
    """

    name: ClassVar[str] = "persistence"
    higher: Direction = "keep"
    comparable: ClassVar[bool] = True

    def __init__(
        self,
        *,
        signed: bool = True,
        batch: int = 100,
        draws: int = 2,
        looks: int = 9,
        settled: bool = False,
        alone: float | None = None,
        norm: float = NORM,
        rebuilt: bool | None = None,
        seed: int = 0,
    ) -> None:
        if not (2 <= batch <= MOST_BATCH and 1 <= draws <= MOST_DRAWS):
            raise CriterionError(
                f"persistence with batch {batch}, draws {draws}",
                hint=f"A tree needs 2 samples, and takes {MOST_BATCH}; draw once to {MOST_DRAWS} times.",
            )
        self.signed, self.batch, self.draws, self.seed = signed, batch, draws, seed
        if alone is not None and not 0 <= alone < float("inf"):
            raise CriterionError(f"persistence with alone {alone}", hint="Give a number from 0 on.")
        if not 0 <= norm <= 1:
            raise CriterionError(f"persistence with norm {norm}", hint="Give a share from 0 to 1.")
        self.norm = norm
        self.looks, self.settled = checked_looks(looks), settled
        self.rebuilt, self._never, self._by_itself = bool(rebuilt), rebuilt is False, alone is None
        self.alone = alone if alone is not None else REBUILT if rebuilt else 0.0

    def settings(self) -> dict[str, Any]:
        """All arguments."""
        names = ("alone", "batch", "draws", "looks", "norm", "seed", "settled", "signed")
        return {name: getattr(self, name) for name in names} | ({"rebuilt": True} if self.rebuilt else {})

    def before_tuning(self) -> Persistence:
        """With :data:`TUNED` for ``alone``, if that was not given, and one look: more change hardly anything."""
        if not self._by_itself:
            return self
        return Persistence(**{**self.settings(), "alone": TUNED, "looks": 1})

    def before_reconstruction(self) -> Persistence:
        """With ``rebuilt`` unless that is ``False``, and :data:`REBUILT` for ``alone`` if that was not given."""
        if self._never:
            return self
        given = {} if not self._by_itself else {"alone": None}
        return Persistence(**{**self.settings(), **given, "rebuilt": True})

    def directions(self, outputs: Tensor, labels: Tensor | None) -> Tensor:  # noqa: ARG002 - it reads none
        """∂T/∂z for each draw, (draws, *outputs.shape)."""
        points = outputs.flatten(1).double().numpy()
        classes = (
            outputs.flatten(2).mean(dim=2).argmax(dim=1).numpy() if outputs.ndim > 2 else outputs.argmax(1).numpy()
        )
        generator = np.random.default_rng(self.seed)
        found = np.zeros((self.draws, *points.shape))
        for draw in found:
            order = generator.permutation(len(points))
            for part in np.array_split(order, max(1, round(len(order) / self.batch))):
                draw[part] = tree_gradient(points[part], classes[part] if self.signed else None)
        return torch.from_numpy(found).float().reshape(self.draws, *outputs.shape)


def tree_gradient(points: NDArray[np.float64], classes: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """Gradient of the total length of the minimum spanning tree with respect to its points.

    Args:
        points: (samples, features).
        classes: (samples,) where edges between different classes count with a minus sign.

    Returns:
        (samples, features): the sum of the unit vectors along a point's edges, away from its neighbours. An edge
        between equal points has no direction and counts nothing.
    """
    first, second = spanning_tree(points).T
    along = points[first] - points[second]
    lengths = np.linalg.norm(along, axis=1, keepdims=True)
    units = np.divide(along, lengths, out=np.zeros_like(along), where=lengths > 0)
    if classes is not None:
        units[classes[first] != classes[second]] *= -1
    gradient = np.zeros_like(points)
    np.add.at(gradient, first, units)
    np.add.at(gradient, second, -units)
    return gradient
