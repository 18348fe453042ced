"""What a criterion is: a name, a direction, and one function from what it reads to one score per filter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from topocompress.types import Direction


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
        self, clouds: Tensor, *, layer_spread: float | None, on_filter: Callable[[], None]
    ) -> NDArray[np.float64] | Tensor:
        """Score some filters of one layer.

        Args:
            clouds: (filters, samples, features) float32 maps, flattened.
            layer_spread: Mean pairwise distance over all clouds of the layer; ``None`` unless ``needs_spread``.
            on_filter: To be called once per finished filter, for the progress display.

        Returns:
            (filters,) finite numbers, or (filters, parts) whose sum over parts is the score.
        """
