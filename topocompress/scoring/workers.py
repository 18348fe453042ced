"""What the scoring processes run. Nothing here loads torch, which would cost each of them seconds and memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from topocompress.criteria.base import CloudCriterion
from topocompress.runtime.compiling import compiled

DEAD = 1e-6
"""A filter is dead when its maps differ between samples by less than this share of their largest value."""


def score_filters(
    criterion: CloudCriterion,
    clouds: NDArray[np.float32],
    layer_spread: float | None,
    device: str,
    labels: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The criterion's scores of some filters, and which of them are dead.

    Args:
        criterion: What to score with.
        clouds: (filters, samples, features).
        layer_spread: As the criterion takes it.
        device: As the criterion takes it.
        labels: (samples,) classes that are scored by themselves and added up.

    Returns:
        (filters,) or (filters, parts), unchecked; (filters,).
    """
    clouds = clouds.view(np.ndarray)
    parts = [clouds] if labels is None else [clouds[:, labels == label] for label in np.unique(labels)]
    for part in parts:
        part.flags.writeable = False
    found = [np.asarray(criterion.score(part, layer_spread=layer_spread, device=device), dtype=float) for part in parts]
    scores: NDArray[np.float64] = sum(found[1:], start=found[0])
    return scores, np.array([is_dead(cloud) for cloud in clouds])


def first_looks(criterion: CloudCriterion, clouds: NDArray[np.float32], device: str) -> NDArray[np.float64]:
    """(filters,) what the criterion finds out first about some (filters, samples, features) clouds."""
    return np.asarray(criterion.first_look(clouds.view(np.ndarray), device=device), dtype=np.float64)


@compiled
def is_dead(cloud: NDArray[Any]) -> bool:
    """Whether a (samples, features) cloud is one point, up to rounding.

    If it is, the first sample tells how large its numbers are; if it is not, the first few samples tell.
    """
    size = np.float32(0)
    for feature in range(cloud.shape[1]):
        size = max(size, abs(cloud[0, feature]))
    for sample in range(1, cloud.shape[0]):
        for feature in range(cloud.shape[1]):
            if abs(cloud[sample, feature] - cloud[0, feature]) > DEAD * size:
                return False
    return True
