"""The Betti number of a filter's feature cloud at one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from topocompress import topology
from topocompress.criteria.base import CloudCriterion
from topocompress.errors import TopologyError
from topocompress.topology import DEFAULT_SCALE, Scale
from topocompress.types import Direction

ORIENTATIONS: Mapping[str, Direction] = {"paper": "remove", "inverse": "keep"}
"""What becomes of filters with high Betti numbers."""


class Betti(CloudCriterion):
    """Betti number of the filter's feature cloud (higher: remove).

    Kochar, Vengalil & Sinha, arXiv:2109.01572 (2021), prune filters whose output has a Betti number above 300. The
    abstract gives neither scale nor sample count; both are ours here: N samples, ε at a quantile of the cloud's own
    distances, the one at which the layer's median cloud falls into N / 5 pieces, Betti number β0 + β1.

    Args:
        orientation: ``paper`` removes the filters with high Betti numbers, as the rule says; ``inverse`` those with
            low ones.
        per_class: Score the samples of each class by themselves and add up; needs labels.
        scale: How ε is chosen: ``components:S``, ``quantile:Q``, ``relative:R``, ``layer:R``, ``absolute:E`` or
            ``knn:K,HOPS``.
        dimensions: Homology dimensions whose Betti numbers are summed, among 0, 1 and 2.
        backend: Engine of persistent homology, ``giotto-ph`` or ``ripser``; by default the first that is installed.
            Both give the same numbers.

    Raises:
        TopologyError: The scale, a dimension, the orientation or the backend is not supported.
    """

    name: ClassVar[str] = "betti"
    higher: Direction = "remove"

    def __init__(
        self,
        *,
        scale: str = DEFAULT_SCALE,
        dimensions: Sequence[int] | int = (0, 1),
        orientation: str = "paper",
        per_class: bool = False,
        backend: str | None = None,
    ) -> None:
        if orientation not in ORIENTATIONS:
            raise TopologyError(f"orientation {orientation!r}", hint=f"Choose among {' and '.join(ORIENTATIONS)}.")
        self.higher = ORIENTATIONS[orientation]
        self.per_class = per_class
        self.scale = Scale.parse(scale)
        self.dimensions = tuple(sorted({dimensions} if isinstance(dimensions, int) else set(dimensions)))
        if not self.dimensions or not set(self.dimensions) <= {0, 1, 2}:
            raise TopologyError(f"homology dimensions {self.dimensions}", hint="Choose among 0, 1 and 2.")
        self._backend = None if backend is None else topology.choose_backend(backend)
        self.parts = tuple(f"beta{dimension}" for dimension in self.dimensions)

    def settings(self) -> dict[str, Any]:
        """Scale and dimensions; orientation and classes where they are not the rule's."""
        more: dict[str, Any] = {"orientation": "inverse"} if self.higher != ORIENTATIONS["paper"] else {}
        if self.per_class:
            more["per_class"] = True
        return {"scale": str(self.scale), "dimensions": list(self.dimensions), **more}

    @property
    def needs_spread(self) -> bool:
        """True for the scales that follow from a layer."""
        return self.scale.of_layer

    def first_look(self, clouds: NDArray[np.float32], *, device: str = "cpu") -> NDArray[np.float64]:
        """See :func:`topocompress.topology.components.first_look`."""
        from topocompress.topology.components import first_look  # compiled functions take time to load

        return np.array([first_look(cloud, self.scale, device=device) for cloud in clouds])

    def spread_of(self, found: NDArray[np.float64]) -> float:
        """See :func:`topocompress.topology.components.of_layer`."""
        from topocompress.topology.components import of_layer

        return of_layer(self.scale, found)

    def scale_taken(self, layer_spread: float | None) -> str:
        """The quantile that ``components`` has come to."""
        if layer_spread is None or self.scale.kind != "components":
            return ""
        from topocompress.topology.components import as_quantile

        return str(as_quantile(self.scale, layer_spread))

    def score(
        self, clouds: NDArray[np.float32], *, layer_spread: float | None = None, device: str = "cpu"
    ) -> NDArray[np.float64]:
        """Betti numbers per dimension, (filters, dimensions); see :meth:`CloudCriterion.score`."""
        numbers = np.empty((len(clouds), len(self.dimensions)))
        for index, cloud in enumerate(clouds):
            graph = topology.neighbourhood_graph(cloud, self.scale, layer=layer_spread, device=device)
            numbers[index] = topology.betti_numbers(graph.rows, self.dimensions, backend=self._backend)
        return numbers
