"""Dividing samples into calibration, fine-tuning and evaluation: seeded, disjoint. Pure numpy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]

HELD_OUT = 0.2
"""Share of each class kept for evaluation where a source does not come divided."""
LEAST_JUDGES = 300
"""So many samples at least judge what is chosen by trying: some 270 can tell nothing lost from a point lost."""
LEAST_LEFT = 100
"""Samples that stay for calibration where more than a fifth is held out to judge by."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Sample numbers per use, each sorted but ``calibration``; no number occurs twice.

    Attributes:
        calibration: (samples,) as near to the same number from each class as there are samples for.
        train: (n,) what is left.
        evaluation: (m,)
        judging: (k,) what a choice by trying is judged on; empty where none are wanted, or there are too few.
    """

    calibration: Indices
    train: Indices
    evaluation: Indices
    judging: Indices = field(default_factory=lambda: np.empty(0, dtype=np.intp))


def split(
    labels: NDArray[np.int64],
    *,
    samples: int,
    eval_samples: int | None,
    seed: int,
    usable: NDArray[np.bool_] | None = None,
    held_out: Indices | None = None,
    split_seed: int | None = None,
    judging: int = 0,
) -> Split:
    """Divide; where fewer than ``samples`` are left for calibration, all of those are taken.

    Args:
        labels: (total,) class of each sample, -1 where unknown.
        samples: Calibration samples wanted.
        eval_samples: At most as many for evaluation; ``None`` for all.
        seed: Seed of every choice.
        usable: (total,) False for samples to leave out.
        held_out: The evaluation samples, where the source says which; else a fifth of each class. Where these are to
            judge and are too few, more, as long as enough are left for calibration.
        split_seed: Seed of the choice of evaluation samples, if not ``seed``.
        judging: Samples wanted to judge a choice by trying. They come from what else is held out, where the source
            says what is, or of that half; else of what is left for fine-tuning at most half.
    """
    total = len(labels)
    alive = np.ones(total, dtype=np.bool_) if usable is None else usable
    # One key per sample, the same whichever others are usable: leaving one out moves no other between the uses.
    keys = np.random.default_rng([seed, 1]).permutation(total)
    split_keys = keys if split_seed is None else np.random.default_rng([split_seed, 1]).permutation(total)
    candidates = np.flatnonzero(alive)
    if held_out is None:
        share, count = HELD_OUT, max(1, len(candidates))
        if judging and (round((1 - share) * count) - samples) // 2 < LEAST_JUDGES:  # none are left to judge apart
            share = max(share, min(LEAST_JUDGES, count - LEAST_LEFT) / count)
        rank, size = _rank_in_class(labels[candidates], split_keys[candidates])
        chosen = (rank + 0.5) / size < share
        wanted = max(1, round(share * len(candidates)))
        if chosen.sum() < wanted / 2:  # classes of one or two samples each give none: some classes give their first
            chosen[np.lexsort((split_keys[candidates], rank))[:wanted]] = True
        evaluation, pool = candidates[chosen], candidates[~chosen]
    else:
        evaluation = held_out[alive[held_out]]
        pool = np.setdiff1d(candidates, held_out)
    evaluation, judges = _parted(evaluation[np.argsort(keys[evaluation])], eval_samples, judging, held_out is not None)
    rank, _ = _rank_in_class(labels[pool], keys[pool])
    order = np.lexsort((keys[pool], rank))
    calibration, train = pool[order[:samples]], pool[order[samples:]]
    if judging and held_out is None and len(train) // 2 >= LEAST_JUDGES:
        judges, train = np.split(train, [min(judging, len(train) // 2)])
    return Split(calibration=calibration, train=np.sort(train), evaluation=np.sort(evaluation), judging=np.sort(judges))


def _parted(held_out: Indices, wanted: int | None, judging: int, divided: bool) -> tuple[Indices, Indices]:
    """Held-out samples in random order, as those for evaluation and those for judging."""
    whole = held_out[:wanted]
    if judging and divided:
        half = whole if len(held_out) - len(whole) >= judging else whole[: (len(held_out) + 1) // 2]
        rest = held_out[len(half) :][:judging]
        if len(rest) >= LEAST_JUDGES:
            return half, rest
    return whole, held_out[:0]


def _rank_in_class(labels: NDArray[np.int64], keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Place of each sample among those of its class in the order of the keys, and the size of its class."""
    rank = np.zeros(len(labels), dtype=np.int64)
    size = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank[members[np.argsort(keys[members])]] = np.arange(len(members))
        size[members] = len(members)
    return rank, size
