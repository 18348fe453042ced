"""How much may really be lost where so much was lost on some samples. Needs neither numpy nor torch."""

from __future__ import annotations

import math
from statistics import NormalDist

CONFIDENCE = 0.95
"""Share of runs in which what is really lost lies within a bound."""
_HALVINGS = 50
_SPREAD = 0.015
"""By how much the accuracies of networks differ whose channels were drawn at random, as a share of 1."""
_FAR, _CERTAIN = 0.1, 0.999
"""A difference that no other draw would make up for, and how certain it must be."""


def upper_loss(lost: int, gained: int, samples: int, confidence: float = CONFIDENCE) -> float:
    """The upper end of a one-sided confidence interval for a loss of accuracy, as a share of 1.

    Two networks see the same samples, so only those count that one of them gets right and the other wrong: the score
    interval for paired proportions of Tango, Statistics in Medicine 17, 1998, p. 891.

    Args:
        lost: Samples that only the original gets right.
        gained: Samples that only the other network gets right.
        samples: Samples in all, at least 1.
        confidence: Share of samplings in which the true loss is to lie below the bound, 0.5..1.
    """
    least = NormalDist().inv_cdf(confidence)
    low, high = (lost - gained) / samples, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _score(lost, gained, samples, middle) < least else (low, middle)
    return high


def paired_error(only_first: int, only_second: int, samples: int) -> float:
    """The standard error of the difference of two accuracies on the same samples, as a share of 1, if they are equal.

    Args:
        only_first: Samples that only the first network gets right.
        only_second: Samples that only the second gets right.
        samples: Samples in all, at least 1.
    """
    return math.sqrt(only_first + only_second) / samples


def drawn_enough(only_first: int, only_second: int, samples: int) -> bool:
    """Whether drawing one of two networks anew would tell nothing more of which choice is better, and by how much.

    So it is where their accuracies are certainly far apart; and where so few samples judge that the error of the
    difference is larger than what draws differ by.

    Args:
        only_first: Samples that only the first gets right.
        only_second: Samples that only the second gets right.
        samples: Samples in all, at least 1.
    """
    lost, gained = sorted((only_first, only_second))
    return paired_error(lost, gained, samples) > _SPREAD or upper_loss(lost, gained, samples, _CERTAIN) < -_FAR


def least_samples(limit: float, confidence: float = CONFIDENCE) -> int:
    """How many samples show that no more than ``limit`` (a share of 1) is lost, if the two networks agree on all."""
    return max(1, math.ceil(NormalDist().inv_cdf(confidence) ** 2 * (1 - limit) / limit)) if limit > 0 else 1


def _score(lost: int, gained: int, samples: int, loss: float) -> float:
    """By how many standard errors what was measured lies below a loss, the errors being those that loss would have."""
    slope = (2 * samples - lost + gained) * loss - lost - gained
    root = math.sqrt(slope * slope + 8 * samples * gained * loss * (1 - loss))
    better = max(0.0, (root - slope) / (4 * samples))
    variance = samples * (2 * better + loss * (1 - loss))
    return (samples * loss - lost + gained) / math.sqrt(variance) if variance > 0 else 0.0
