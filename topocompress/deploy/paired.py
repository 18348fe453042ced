"""Two networks' answers to the same labelled samples, held against each other."""

from __future__ import annotations

from typing import NamedTuple

from topocompress.deploy.measurement import Predictions


class Paired(NamedTuple):
    """How many samples (or pixels) only one of two networks gets right, of how many in all."""

    only_first: int
    only_second: int
    samples: int


def paired(first: Predictions, second: Predictions) -> Paired | None:
    """Count what only one of two networks gets right.

    Args:
        first: What one network says of labelled samples.
        second: What the other says of the same.

    Returns:
        ``None`` where there are no labels, or nothing that could be held against them.
    """
    labels = first.labels
    if labels is None or first.classes.shape != labels.shape or second.classes.shape != labels.shape:
        return None
    known = labels >= 0
    right, other = first.classes == labels, second.classes == labels
    return Paired(int((right & ~other & known).sum()), int((other & ~right & known).sum()), int(known.sum()))
