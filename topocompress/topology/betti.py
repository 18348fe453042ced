"""Betti numbers of the clique complex of a graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from topocompress.errors import TopologyError
from topocompress.topology.backends import choose_backend, persistence_diagrams
from topocompress.topology.bits import Bits, count_edges, pack, unpack
from topocompress.topology.elimination import loops_minus_parts
from topocompress.topology.reduction import count_components, reduce

_FEW_EDGES = 4096


def betti_numbers(
    graph: NDArray[np.bool_] | Bits, dimensions: Sequence[int] = (0, 1), *, backend: str | None = None
) -> tuple[int, ...]:
    """Betti numbers of the clique complex of a graph, over the field with two elements.

    The complex is first reduced, see :mod:`topocompress.topology.reduction`. Of the core that is left, β1 comes from
    elimination where the core is small, else, like β2, from a backend of persistent homology.

    Args:
        graph: (samples, samples) bool adjacency, symmetric, or its rows of bits; the diagonal is ignored.
        dimensions: Homology dimensions wanted, each 0, 1 or 2.
        backend: ``giotto-ph`` or ``ripser``; by default the first that is installed.

    Returns:
        One number per dimension asked for.

    Raises:
        TopologyError: A dimension above 2 or below 0, or the backend is not installed.
    """
    if not dimensions or not set(dimensions) <= {0, 1, 2}:
        raise TopologyError(f"homology dimensions {tuple(dimensions)}", hint="Choose among 0, 1 and 2.")
    chosen = None if backend is None else choose_backend(backend)
    rows: Bits = pack(graph.astype(np.bool_)) if graph.dtype == np.bool_ else graph.astype(np.uint64)
    numbers = [int(count_components(rows)), 0, 0]
    highest = max(dimensions)
    if highest:
        core, difference = reduce(rows, highest == 2)
        if highest == 2:
            numbers[1:] = _by_persistence(unpack(core), 2, chosen)[1:]
        else:
            numbers[1] = numbers[0] + int(difference) + _loops_minus_parts(core, chosen)
    return tuple(numbers[dimension] for dimension in dimensions)


def _loops_minus_parts(core: Bits, backend: str | None) -> int:
    if count_edges(core) <= _FEW_EDGES:
        return int(loops_minus_parts(core))
    parts, loops = _by_persistence(unpack(core), 1, backend)
    return loops - parts


def _by_persistence(graph: NDArray[np.bool_], highest: int, backend: str | None) -> list[int]:
    if len(graph) < 2:
        return [len(graph), 0, 0][: highest + 1]
    # With every edge at filtration value 1 the complex at 1 is the clique complex: a bar that never ends is a class.
    steps = np.where(graph, np.float32(1), np.float32(2))
    np.fill_diagonal(steps, 0)
    diagrams = persistence_diagrams(steps, highest, threshold=1.0, backend=backend)
    return [int(np.isinf(diagram[:, 1]).sum()) for diagram in diagrams]
