"""Doubts whether labels and outputs mean the same classes, from what a network says of labelled samples."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from topocompress.deploy.measurement import Predictions

_PER_CLASS = 5
"""Samples per class from which another order of the classes is looked for: with fewer, one always fits by chance."""
_GAIN = 0.25
"""By how much accuracy must rise in another order of the classes to be worth a word."""


def labels_doubted(original: Predictions) -> tuple[str, ...]:
    """A sentence where labels and outputs seem to be in different orders, or to have nothing to do with each other.

    Told from a confusion matrix whose large entries lie beside its diagonal (the best order of the classes by linear
    assignment), or, for few samples, from outputs that are sure and right no more often than by chance: the rate
    Σ p(label = k) · p(output = k) that independence would give, with two standard errors.

    Args:
        original: The unpruned network's, one class per sample.
    """
    if original.accuracy is None or original.labels is None or original.classes.ndim != 1:
        return ()
    known = original.labels >= 0
    labels, outputs = original.labels[known], original.classes[known]
    values, counts = np.unique(labels, return_counts=True)
    width = int(max(labels.max(), outputs.max())) + 1
    table = np.zeros((width, width), dtype=np.int64)
    np.add.at(table, (labels, outputs), 1)
    accuracy, total = original.accuracy, len(labels)
    if total >= _PER_CLASS * len(values) and len(values) > 1:
        best = table[linear_sum_assignment(table, maximize=True)].sum() / total
        if best > accuracy + _GAIN:
            return (
                f"Labels and outputs may not mean the same classes: accuracy is {100 * accuracy:.1f} %, and "
                f"{100 * best:.1f} % with the classes in another order. Name the outputs with --classes.",
            )
    chance = float((counts / total) @ np.array([(outputs == value).mean() for value in values]))
    noise = 2 * (chance * (1 - chance) / total) ** 0.5
    sure = original.confidence or 0.0
    if sure > (1 + chance) / 2 and len(values) > 1 and accuracy <= chance + noise:
        return (
            f"Labels and outputs may not mean the same classes: the network is sure ({100 * sure:.0f} % "
            f"on average) and right no more often than by chance ({100 * accuracy:.1f} %). Check the names and the "
            "order of the classes (--classes), and how images are prepared (--mean, --std).",
        )
    return ()
