"""Sentences where a measure says less than it seems to: outputs that nobody looked at, or that say nothing."""

from __future__ import annotations

import numpy as np

from topocompress.criteria.base import Criterion, GradientCriterion
from topocompress.deploy.measurement import Predictions
from topocompress.network.detectors import SCORE
from topocompress.network.outputs import Outputs
from topocompress.surgery.activations import some


def nothing_found(original: Predictions) -> tuple[str, ...]:
    """A sentence where the original finds nothing, or says the same of all samples, so that likeness says nothing."""
    if original.values is not None:
        still = [name for name, values in original.values.items() if values.constant]
        if not still:
            return ()
        which = (
            "The original gives the same output"
            if len(original.values) == 1
            else f"The original's {some(still)} is the same"
        )
        return (
            f"{which} for all held-out samples: there is no variation to explain, and likeness to it says nothing.",
        )
    if original.boxes is None and original.values is None and original.classes.size > 1:
        told = original.labels is None or len(np.unique(original.labels[original.labels >= 0])) > 1
        if not told or (original.classes != original.classes.flat[0]).any():
            return ()
        where = f"{len(original.classes)} held-out samples" + (", at every pixel" if original.classes.ndim > 1 else "")
        return (
            f"The original gives the same class, number {original.classes.flat[0]}, for all {where}: agreement with it "
            "says little. Are inputs prepared as in training?",
        )
    if original.boxes is None or any(len(each.certain().scores) for each in original.boxes):
        return ()
    return (
        f"The original finds nothing (score {SCORE:g} or more) in the {len(original.boxes)} held-out images: agreement "
        "with it says nothing.",
    )


def unseen(outputs: Outputs, criterion: Criterion | str) -> tuple[str, ...]:
    """Sentences where a network has outputs that were not looked at."""
    found = []
    if outputs.aside:
        found.append(f"Outputs that were not looked at: {some(outputs.aside)}. What became of them is not known.")
    if len(outputs.compared) > 1 and isinstance(criterion, GradientCriterion):
        found.append(f"Filters were chosen by what they do to the first output, {outputs.compared[0].name}, alone.")
    return tuple(found)
