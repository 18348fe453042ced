"""The tables of CNNs on images for ``docs/research/activation.md``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.activation import images
from benchmarks.activation.data import SETS
from benchmarks.activation.runs import BATCH
from benchmarks.activation.steps import quantile, spread, times_fewer
from benchmarks.activation.zoo import CANDIDATES, OURS

Rows = Mapping[str, Any]


def image_tables(rows: Rows) -> Iterator[str]:
    """What the CNNs have come to."""
    cells = {(title, kind): cell_of(rows, title, kind) for title in SETS for kind in images.KINDS}
    cells = {where: found for where, found in cells.items() if "ReLU" in found}
    if not cells:
        return
    yield "### Images\n"
    yield (
        f"Convolutions of {', '.join(map(str, images.WIDTHS))} channels, images of full size; "
        f"{len(images.SEEDS)} seeds, {images.STEPS[10]:,} steps of {BATCH} for ten classes and {images.STEPS[2]} "
        f"for two; the best rate of {', '.join(f'{rate:g}' for rate in images.RATES)}, "
        f"by {len(images.TRIAL_SEEDS)} other seeds.\n"
    )
    yield "| images | BatchNorm | steps, ReLU's ÷ ours | final accuracy, ours − best other | best other |"
    yield "|---|---|---:|---:|---|"
    for (title, kind), found in cells.items():
        if OURS not in found or len(found) == 1:
            continue
        goal = _goal(found)
        own, plain = (quantile(sorted(_steps(found[name], goal)), 0.5) for name in (OURS, "ReLU"))
        lead, best = lead_of(found)
        times = times_fewer(plain, own, images.STEPS[len(SETS[title][1])])
        yield f"| {title} | {_WITH[kind]} | {times} | {lead:+.2f} | {best} |"
    yield "\nSteps are medians until ReLU's own final accuracy, accuracies means over the seeds, in points.\n"
    for words in _OFF_GPU:
        off = {f"{title}, {_WITH[kind]} BatchNorm": _off(found)[words] for (title, kind), found in cells.items()}
        named = [f"{where}: {', '.join(some)}" for where, some in off.items() if some]
        if named:
            yield f"Trained {words}: {'; '.join(named)}.\n"


def lead_of(found: Rows) -> tuple[float, str]:
    """By how many points our final accuracy is above that of the best other activation, and which that is."""
    ends = {name: float(np.mean(entry["final"])) for name, entry in found.items() if name != OURS}
    best = max(ends, key=ends.__getitem__)
    return 100 * (float(np.mean(found[OURS]["final"])) - ends[best]), best


_WITH = {kind: "with" if norm else "without" for kind, norm in images.KINDS.items()}


def cell_of(rows: Rows, title: str, kind: str) -> dict[str, Any]:
    """The runs of every activation in one kind of network on one set."""
    entries = {name: rows.get(images.row(name, title, kind, "runs")) for name in images.NAMES}
    return {name: entry for name, entry in entries.items() if entry is not None}


def _goal(found: Rows) -> float:
    return float(np.median([final(run) for run in found["ReLU"]["accuracy"]]))


def _steps(entry: Rows, goal: float) -> list[float]:
    steps = [reached(run, goal) for run in entry["accuracy"]]
    return [math.inf if step is None else step for step in steps]


def _ends(found: Rows, goal: float) -> Iterator[str]:
    """Activation by activation: steps to the goal and accuracy at the end."""
    yield "| activation | rate | steps | failed | final accuracy, mean (lowest–highest) |"
    yield "|---|---:|---:|---:|---:|"
    for name, entry in found.items():
        steps = _steps(entry, goal)
        ends = sorted(entry["final"])
        yield (
            f"| {name} | {entry['rate']:g} | {spread(steps)} | {steps.count(math.inf)} | "
            f"{100 * np.mean(ends):.2f} % ({100 * ends[0]:.1f}–{100 * ends[-1]:.1f}) |"
        )
    yield from _off_gpu(found)


_OFF_GPU = {"in bfloat16": {"precision": "bf16"}, "on a CPU in single precision": {"device": "cpu", "precision": "no"}}


def _off(found: Rows) -> dict[str, list[str]]:
    """Which were not trained as most were, on a GPU."""
    return {
        words: [name for name, entry in found.items() if there.items() <= entry.items()]
        for words, there in _OFF_GPU.items()
    }


def _off_gpu(found: Rows) -> Iterator[str]:
    for words, named in _off(found).items():
        if named:
            yield f"\nTrained {words}: {', '.join(named)}."


def final(accuracies: Sequence[float]) -> float:
    """The mean of the last three tests, all within the last twentieth of the training."""
    return float(np.mean(accuracies[-3:]))


def reached(accuracies: Sequence[float], goal: float) -> float | None:
    """The first step at which a run was as good as that."""
    tests = next(found for steps in images.STEPS.values() if len(found := images.moments(steps)) == len(accuracies))
    return next((float(step) for step, seen in zip(tests, accuracies, strict=True) if seen >= goal), None)


def candidate_tables(rows: Rows) -> Iterator[str]:
    """What was tried for ours in CNNs."""
    cells = [(title, kind) for kind in images.KINDS for title in images.TRIED_ON]
    found, halves = {}, {}
    for name in (*CANDIDATES, *images.NAMES[1:]):
        trials = [rows.get(images.row(name, title, kind, "trial")) for title, kind in cells]
        if all(trials):
            found[name] = [(100 * max(trial["scores"]), 100 * max(trial["ends"])) for trial in trials if trial]
            halves[name] = next((trial for trial in trials if trial and trial.get("precision") == "bf16"), {})
    if not found:
        return
    yield "### What was tried on images\n"
    yield f"| activation | {' | '.join(f'{title}, {kind}' for title, kind in cells)} | mean |"
    yield f"|---|{'---:|' * (len(cells) + 1)}"
    for name, scores in sorted(found.items(), key=lambda item: -np.mean(item[1])):
        means = np.mean(scores, 0)
        yield f"| {name} | {' | '.join(f'{a:.1f} · {b:.1f}' for a, b in scores)} | {means[0]:.2f} · {means[1]:.2f} |"
    yield (
        "\nAccuracy in % in the later half of a training of half length · at its end, each at its best rate; "
        "two seeds that count nowhere else."
    )
    yield from _off_gpu(halves)
    for (title, kind), names in images.LONGER.items():
        longer = {name: rows[key] for name in names if (key := images.row(name, title, kind, "runs")) in rows}
        if longer and "ReLU" in (cell := cell_of(rows, title, kind)):
            yield f"\nTrained in full, as in the table of {title}, {_WITH[kind]} BatchNorm:\n"
            yield from _ends(longer, _goal(cell))
    yield ""
