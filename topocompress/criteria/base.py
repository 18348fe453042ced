"""What a criterion is: a name, a direction, and one function from what it reads to one score per filter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from topocompress.errors import CriterionError
from topocompress.types import Direction

if TYPE_CHECKING:  # the processes that score clouds do not load torch
    from torch import Tensor


class Criterion(ABC):
    """Base of all criteria. Subclass :class:`WeightCriterion` or :class:`CloudCriterion`.

    The first line of a subclass's docstring is what ``topocompress criteria`` prints.

    Attributes:
        name: What users call it; lower case with hyphens.
        higher: Whether a higher score speaks for keeping or for removing the filter.
    """

    name: ClassVar[str]
    higher: ClassVar[Direction]

    def settings(self) -> dict[str, Any]:
        """The settings that produced the scores, as plain data; written into ``scores.json``."""
        return dict(sorted(vars(self).items()))


class WeightCriterion(Criterion):
    """A criterion that reads nothing but a layer's weights, and so needs no data."""

    @abstractmethod
    def score(self, weight: Tensor) -> Tensor:
        """Score the filters of one layer.

        Args:
            weight: (filters, ...) float32: (out, in / groups, kh, kw) of a convolution, (out, in) of a linear layer.

        Returns:
            (filters,) finite numbers.
        """


class CloudCriterion(Criterion):
    """A criterion that reads feature clouds: the calibration samples as each filter sees them.

    Filters are scored in several processes, a few at a time. An instance must be picklable, and a filter's score may
    not depend on the filters beside it.

    Attributes:
        parts: Names of the summands where :meth:`score` returns (filters, parts); empty where it returns (filters,).
    """

    parts: tuple[str, ...] = ()

    @property
    def needs_spread(self) -> bool:
        """Whether :meth:`score` needs the layer's mean pairwise distance, at the price of a second round of passes."""
        return False

    @abstractmethod
    def score(
        self, clouds: NDArray[np.float32], *, layer_spread: float | None = None, device: str = "cpu"
    ) -> NDArray[np.float64]:
        """Score some filters of one layer.

        Args:
            clouds: (filters, samples, features) maps, flattened; read-only.
            layer_spread: Mean pairwise distance over all clouds of the layer; ``None`` unless ``needs_spread``.
            device: Where large products may run, as torch names it.

        Returns:
            (filters,) finite numbers, or (filters, parts) whose sum over parts is the score.
        """


def checked(
    layer: str, criterion: Criterion, raw: Tensor | NDArray[np.float64], filters: int, parts: tuple[str, ...] = ()
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """A layer's scores and their parts, if they are what the contract asks for.

    Args:
        layer: Name, for the message.
        criterion: What scored.
        raw: What :meth:`score` returned.
        filters: How many scores there must be.
        parts: Names of the parts, if any.

    Raises:
        CriterionError: Another shape, or NaN or infinity.
    """
    array = np.asarray(raw, dtype=np.float64)
    shape = (filters, len(parts)) if parts else (filters,)
    if array.shape != shape:
        raise CriterionError(
            f"criterion {criterion.name!r} returned shape {array.shape} for {layer}, expected {shape}",
            hint="score() returns one number per filter, or one per filter and part.",
        )
    if not np.isfinite(array).all():
        raise CriterionError(f"criterion {criterion.name!r} returned NaN or infinity for {layer}")
    if not parts:
        return array, {}
    return array.sum(axis=1), {part: array[:, index] for index, part in enumerate(parts)}
