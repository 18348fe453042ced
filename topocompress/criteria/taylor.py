"""What removing a filter does to the loss, to first order."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from topocompress.criteria.base import GradientCriterion
from topocompress.errors import CriterionError, DataError
from topocompress.types import Direction


class Taylor(GradientCriterion):
    """First-order change of the loss without the filter; needs labels (higher: keep).

    Molchanov, Mallya, Tyree, Frosio & Kautz, "Importance Estimation for Neural Network Pruning", CVPR 2019,
    arXiv:1906.10771, in its form with a mask on each map: the root mean square over the samples of Σ a · ∂L/∂a, with L
    the cross-entropy of the sample.

    Args:
        looks: 1 as published; more ranks filters by their joint effect, as ``persistence`` does.

    Raises:
        CriterionError: ``looks`` is not a positive whole number.
    """

    name: ClassVar[str] = "taylor"
    higher: Direction = "keep"
    comparable: ClassVar[bool] = True
    needs_labels = True

    def __init__(self, *, looks: int = 1) -> None:
        self.looks = checked_looks(looks)

    def settings(self) -> dict[str, Any]:
        """The number of looks."""
        return {"looks": self.looks}

    def directions(self, outputs: Tensor, labels: Tensor | None) -> Tensor:
        """Gradient of each sample's cross-entropy, softmax less one-hot, (1, samples, classes).

        Raises:
            DataError: There are no labels, or the outputs are not one score per class.
        """
        if labels is None:
            raise DataError("criterion 'taylor' needs labels", hint="Give labelled --data, or use persistence.")
        if outputs.ndim != 2:
            raise DataError(
                f"criterion 'taylor' needs one score per class and sample; the model returns {tuple(outputs.shape)}",
                hint="Use persistence, which needs no labels.",
            )
        gradient = outputs.softmax(dim=1)
        gradient[torch.arange(len(labels)), labels] -= 1
        return gradient[None]


MOST_LOOKS = 1_000


def checked_looks(looks: int) -> int:
    """The number of looks, if it makes sense.

    Raises:
        CriterionError: It is not a whole number from 1 to :data:`MOST_LOOKS`.
    """
    if not isinstance(looks, int) or not 1 <= looks <= MOST_LOOKS:
        raise CriterionError(
            f"{looks!r} looks", hint=f"Give a whole number to {MOST_LOOKS}; 1 judges every filter alone."
        )
    return looks
