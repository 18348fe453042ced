"""What scores predict: the change of the outputs when one filter goes and its readers are refitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.arena.study import Subject
from benchmarks.common.results import Results
from benchmarks.reconstruction.cells import SUITED
from topocompress.data.loading import batches
from topocompress.network.inference import evaluating, run_forward
from topocompress.planning.rules import Limits
from topocompress.reconstruction.refit import reconstruct
from topocompress.surgery.removal import apply
from topocompress.types import PruningPlan
from topocompress.workflows.compare import contestant

IMAGES = 1000
"""Held-out images on which outputs are compared."""


def losses(subject: Subject, every: int, results: Results) -> dict[str, dict[int, float]]:
    """Layer → filter → mean square change of the logits without it, for one filter in so many."""
    images, _ = subject.images["evaluation"]
    calibration = list(batches(subject.calibration(0)))
    model: Any = subject.loaded.module
    with evaluating(model):
        whole = run_forward(model, images[:IMAGES].clone())
    plan = contestant(
        "l1", subject.scores("l1", 0), subject.groups, subject.costs, ratio=0.5, limits=Limits(round_to=1)
    )
    found: dict[str, dict[int, float]] = {}

    def change(chosen: PruningPlan) -> dict[str, float]:
        smaller = reconstruct(apply(model, chosen, example=subject.example), model, chosen, calibration).model
        with evaluating(smaller):
            return {"change": float((run_forward(smaller, images[:IMAGES].clone()) - whole).square().mean())}

    for entry in plan.groups:
        for channel in range(0, entry.width if entry.remove else 0, every):
            chosen = replace(plan, groups=tuple(_without(each, entry.root, channel) for each in plan.groups))
            row = results.once(f"single {subject.name} {entry.root} {channel}", lambda chosen=chosen: change(chosen))
            found.setdefault(entry.root, {})[channel] = row["change"]
    return found


def _without(entry: Any, root: str, channel: int) -> Any:
    left = {"remove": (channel,), "dead": ()} if entry.root == root else {"remove": (), "dead": ()}
    kept = entry.width - len(left["remove"])
    widths = {name: (before, kept) for name, (before, _) in entry.filters.items()}
    return replace(
        entry, **left, filters=widths, readers={name: (each[0], kept) for name, each in entry.readers.items()}
    )


def correlations(subject: Subject, names: Sequence[str], found: Mapping[str, Mapping[int, float]]) -> dict[str, float]:
    """Criterion → mean over layers of Spearman's rank correlation of its scores with the loss."""
    ranks = {}
    for name in names:
        scores = subject.scores(SUITED.get(name, name), 0)
        sign = 1 if scores.higher == "keep" else -1
        each = []
        for layer, by_filter in found.items():
            values = sign * scores.layers[layer].values[list(by_filter)]
            rank = spearmanr(values, list(by_filter.values())).statistic if np.ptp(values) else 0.0
            each.append(rank)
        ranks[name] = float(np.mean(each))
    return ranks
