"""Persistent homology by other people's engines, behind one function: giotto-ph or ripser.

A backend is a function (distances, max_dimension, threshold) -> diagrams. Both give the same numbers.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import random
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from topocompress.errors import TopologyError

Backend = Literal["giotto-ph", "ripser"]
Run = Callable[[NDArray[np.float32], int, float], Sequence[NDArray[Any]]]


def _giotto(distances: NDArray[np.float32], max_dimension: int, threshold: float) -> Sequence[NDArray[Any]]:
    """Pérez, Hauke, Lupo, Caorsi & Dassatti, arXiv:2107.05412 (2021)."""
    run = _imported_giotto()
    found: Sequence[NDArray[Any]] = run(distances, maxdim=max_dimension, thresh=threshold, metric="precomputed")["dgms"]
    return found


def _ripser(distances: NDArray[np.float32], max_dimension: int, threshold: float) -> Sequence[NDArray[Any]]:
    """Tralie, Saul & Bar-On, JOSS 3(29), 2018, doi:10.21105/joss.00925."""
    from ripser import ripser

    found: Sequence[NDArray[Any]] = ripser(distances, maxdim=max_dimension, thresh=threshold, distance_matrix=True)[
        "dgms"
    ]
    return found


# By preference; what must be importable, and what runs.
_BACKENDS: dict[Backend, tuple[str, Run]] = {"giotto-ph": ("gph", _giotto), "ripser": ("ripser", _ripser)}


@functools.cache
def _imported_giotto() -> Callable[..., Any]:
    state = random.getstate()  # its import draws from Python's generator
    from gph import ripser_parallel

    random.setstate(state)
    found: Callable[..., Any] = ripser_parallel
    return found


def choose_backend(name: str | None = None) -> Backend:
    """The backend of a name, or the first that is installed.

    Raises:
        TopologyError: It is unknown or not installed.
    """
    if name is not None and name not in _BACKENDS:
        raise TopologyError(f"unknown backend {name!r}", hint=f"Choose among {', '.join(_BACKENDS)}.")
    for backend, (module, _) in _BACKENDS.items():
        if name in (None, backend) and importlib.util.find_spec(module):
            return backend
    if name is None:
        raise TopologyError("no persistent-homology backend is installed", hint="pip install ripser")
    raise TopologyError(f"the backend {name} is not installed", hint=f"pip install {name}")


def persistence_diagrams(
    distances: NDArray[np.float32],
    max_dimension: int = 1,
    *,
    threshold: float = math.inf,
    backend: str | None = None,
) -> list[NDArray[np.float64]]:
    """Persistence diagrams of the Vietoris–Rips filtration, over the field with two elements.

    Args:
        distances: (samples, samples) symmetric, finite, zero diagonal.
        max_dimension: Highest homology dimension.
        threshold: Largest filtration value, in units of ``distances``; bars alive there are infinite.
        backend: ``giotto-ph`` or ``ripser``; by default the first that is installed.

    Returns:
        One (bars, 2) array per dimension: birth, death (``inf`` where the bar never ends), rows sorted.

    Raises:
        TopologyError: NaN or infinity among the distances, or the backend is not installed.
    """
    if not np.isfinite(distances).all():
        raise TopologyError("distances must be finite; got NaN or infinity")
    _, run = _BACKENDS[choose_backend(backend)]
    rows = [np.asarray(diagram, np.float64).reshape(-1, 2) for diagram in run(distances, max_dimension, threshold)]
    return [diagram[np.lexsort((diagram[:, 1], diagram[:, 0]))] for diagram in rows]
