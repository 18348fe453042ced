"""The topology of single feature maps: Betti numbers of the cubical complex of a map's bright pixels."""

from __future__ import annotations

import gudhi
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from topocompress.criteria import MapCriterion
from topocompress.errors import CriterionError


class Cubical(MapCriterion):
    """Mean Betti number of the bright parts of the filter's maps, as cubical complexes (higher: keep).

    A map of h × w pixels is cut at the middle between its least and its largest value; the pixels above are the squares
    of a cubical complex, and squares that touch, at a corner too, hang together. Its Betti number is the number of
    pieces plus the number of holes. A constant map has none.

    The closest published relative is TopologyHole (J. Real-Time Image Process., 2022, doi:10.1007/s11554-022-01209-z),
    which counts holes of feature maps; this is not that method.

    Args:
        samples: Samples that are read at most.

    Raises:
        CriterionError: ``samples`` is not positive.
    """

    name, higher = "cubical", "keep"

    def __init__(self, *, samples: int = 100) -> None:
        if samples < 1:
            raise CriterionError(f"cubical with {samples} samples", hint="Give a positive number.")
        self.most_samples = samples

    def score(self, maps: Tensor) -> Tensor:
        """Pieces plus holes of each map, (samples, filters)."""
        images = maps.detach().cpu().numpy()
        return torch.tensor([[float(sum(betti_numbers(image))) for image in sample] for sample in images])


def betti_numbers(image: NDArray[np.float32]) -> tuple[int, int]:
    """Pieces and holes of the bright part of an (h, w) image: (β0, β1)."""
    low, high = float(image.min()), float(image.max())
    if not low < high:
        return 0, 0
    bright = image > (low + high) / 2
    # A frame of dark pixels, so that holes at the border are none; bright pixels come first in the filtration.
    values = np.pad(np.where(bright, 0.0, 1.0), 1, constant_values=1.0)
    complex_ = gudhi.CubicalComplex(top_dimensional_cells=values)
    complex_.compute_persistence()
    numbers = complex_.persistent_betti_numbers(0.0, 0.0)
    return int(numbers[0]), int(numbers[1])
