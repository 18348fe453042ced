"""A run directory and a cache of scores as version 0.1.0 wrote them before its modules moved into packages.

``python -c "from tests.helpers.saved import write; write('DIR')"`` writes them anew; what is in ``tests/saved`` must
load for ever.
"""

from pathlib import Path

import numpy as np

from topocompress.criteria import CloudCriterion

SAMPLES = 40


class Spread(CloudCriterion):
    """The largest value of a cloud: quick, and not constant."""

    name = "spread"
    higher = "keep"

    def score(self, clouds, *, layer_spread=1.0, device="cpu"):
        return np.abs(clouds).max(axis=(1, 2))


def options(cache):
    return {"ratio": 0.75, "criterion": Spread(), "samples": SAMPLES, "cache": Path(cache), "controls": False}


def write(folder):
    """Prune the digits' network twice, the second time from the first run."""
    from topocompress import compress

    folder = Path(folder)
    compress("digits", "digits", out=folder / "once", **options(folder / "scores"))
    compress(
        folder / "once", "digits", out=folder / "twice", **{**options(folder / "other"), "ratio": 0.5, "cache": None}
    )
