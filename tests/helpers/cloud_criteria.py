"""Criteria for worker processes, which import this module: like ours, they do not wait for torch."""

import contextlib
import os
import signal

import numpy as np

from topocompress.criteria.base import CloudCriterion
from topocompress.topology import mean_distance


class Spread(CloudCriterion):
    """Mean distance (higher: keep)."""

    name, higher = "spread", "keep"

    def score(self, clouds, *, layer_spread=None, device="cpu"):
        return np.array([mean_distance(cloud) for cloud in clouds])


class Where(Spread):
    """Process that scores (higher: keep)."""

    def score(self, clouds, *, layer_spread=None, device="cpu"):
        return np.full(len(clouds), float(os.getpid()))


class Failing(Spread):
    """Fails in layers whose points have some number of features (higher: keep)."""

    def __init__(self, features: int) -> None:
        self.features = features

    def settings(self):
        return {}

    def score(self, clouds, *, layer_spread=None, device="cpu"):
        if clouds.shape[2] == self.features:
            raise ZeroDivisionError(f"{self.features} features")
        return super().score(clouds)


class Writing(Spread):
    """Writes into the clouds it is given (higher: keep)."""

    def score(self, clouds, *, layer_spread=None, device="cpu"):
        with contextlib.suppress(ValueError):
            clouds.flags.writeable = True
        clouds[0, 0, 0] = 1.0
        return super().score(clouds)


class DiesOnce(CloudCriterion):
    """Kills the first process that scores with it, in the middle of a layer."""

    name = "dies-once"
    higher = "remove"

    def __init__(self, marker):
        self.marker = str(marker)

    def score(self, clouds, *, layer_spread=None, device="cpu"):
        try:
            descriptor = os.open(self.marker, os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return clouds.astype(np.float64).sum(axis=(1, 2))
        os.close(descriptor)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("not reached")
