"""The Betti number of a filter's feature cloud at one scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from topocompress.criteria.base import CloudCriterion
from topocompress.errors import TopologyError
from topocompress.topology import Scale, betti_numbers, choose_backend, neighbourhood_graph
from topocompress.types import Direction


class Betti(CloudCriterion):
    """Betti number of the filter's feature cloud (higher: remove).

    Kochar, Vengalil & Sinha, arXiv:2109.01572 (2021), prune filters whose output has a Betti number above 300. The
    abstract gives neither scale nor sample count; both are ours here: N samples, ε at a quantile of the cloud's own
    distances, Betti number β0 + β1.

    Args:
        scale: How ε is chosen: ``quantile:Q``, ``relative:R``, ``layer:R``, ``absolute:E`` or ``knn:K,HOPS``.
        dimensions: Homology dimensions whose Betti numbers are summed, among 0, 1 and 2.
        backend: Engine of persistent homology, ``giotto-ph`` or ``ripser``; by default the first that is installed.
            Both give the same numbers.

    Raises:
        TopologyError: The scale, a dimension or the backend is not supported.
    """

    name: ClassVar[str] = "betti"
    higher: ClassVar[Direction] = "remove"

    def __init__(
        self, *, scale: str = "quantile:0.2", dimensions: Sequence[int] = (0, 1), backend: str | None = None
    ) -> None:
        self.scale = Scale.parse(scale)
        self.dimensions = tuple(sorted(set(dimensions)))
        if not self.dimensions or not set(self.dimensions) <= {0, 1, 2}:
            raise TopologyError(f"homology dimensions {tuple(dimensions)}", hint="Choose among 0, 1 and 2.")
        self._backend = None if backend is None else choose_backend(backend)
        self.parts = tuple(f"beta{dimension}" for dimension in self.dimensions)

    def settings(self) -> dict[str, Any]:
        """Scale and dimensions."""
        return {"scale": str(self.scale), "dimensions": list(self.dimensions)}

    @property
    def needs_spread(self) -> bool:
        """True for the ``layer`` scale alone."""
        return self.scale.kind == "layer"

    def score(
        self, clouds: NDArray[np.float32], *, layer_spread: float | None = None, device: str = "cpu"
    ) -> NDArray[np.float64]:
        """Betti numbers per dimension, (filters, dimensions); see :meth:`CloudCriterion.score`."""
        numbers = np.empty((len(clouds), len(self.dimensions)))
        for index, cloud in enumerate(clouds):
            graph = neighbourhood_graph(cloud, self.scale, layer_mean=layer_spread, device=device)
            numbers[index] = betti_numbers(graph.rows, self.dimensions, backend=self._backend)
        return numbers
