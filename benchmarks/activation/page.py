"""What the study has found, as tables for ``docs/activation.md``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.activation import images
from benchmarks.activation.betti import DECAY, MAIN, POINTS, STEPS, TRIED, Table, area, counted, halved, totals_of
from benchmarks.activation.data import SETS
from benchmarks.activation.runs import BATCH as IMAGE_BATCH
from benchmarks.activation.sets import DEPTH, NAMES, RATES, SEEDS, TASKS, Task
from benchmarks.activation.stack import BATCH, LEVELS
from benchmarks.activation.zoo import CANDIDATES, OURS, SMOOTH

Rows = Mapping[str, Any]


def tables(rows: Rows) -> str:
    """Everything that has been measured so far, in Markdown."""
    parts = [*_sets(rows), *_betti(rows), *_images(rows), *_candidates(rows), *_cost(rows), *_dense(rows)]
    return "\n".join(parts) + "\n"


def spread(values: Sequence[float | None]) -> str:
    """Median and quartiles of steps; runs that failed count as more than any that did not."""
    steps = sorted(math.inf if value is None else value for value in values)
    median, low, high = (_quantile(steps, share) for share in (0.5, 0.25, 0.75))
    return f"{_shown(median)} ({_shown(low)}–{_shown(high)})" if math.isfinite(median) else "never"


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low if low == high else low + (high - low) * (place - math.floor(place))


def _escaped(name: str) -> str:
    return name.replace("|", r"\|")


def _shown(value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) else "never"


def _median(entry: Rows, level: float = LEVELS[-1]) -> float:
    return _quantile(sorted(math.inf if v is None else v for v in entry["steps"][f"{level:.2f}"]), 0.5)


def _times(other: float, own: float, limit: float) -> str:
    if not math.isfinite(own):
        return "not reached"
    return f"{other / own:.1f}×" if math.isfinite(other) else f"more than {limit / own:.1f}×"


def _sets(rows: Rows) -> Iterator[str]:
    for title, task in TASKS.items():
        found = {name: rows[key] for name in NAMES if (key := f"sets/{title}/{name}/runs") in rows}
        if OURS not in found:
            continue
        yield f"### {title}: {task.source.name}, Betti numbers {task.source.betti[0]} and {task.source.betti[1]}\n"
        most = f"{task.steps} steps" + (f" (ReLU {task.longer})" if task.longer else "")
        yield (
            f"{DEPTH} hidden layers of {task.width}, {task.training:,} points, batches of {BATCH}, Adam; {len(SEEDS)} "
            f"seeds, at most {most}; the best rate of {', '.join(f'{rate:g}' for rate in RATES)}.\n"
        )
        yield "| activation | rate | to 90 % | to 95 % | to 99 % | failed | time to 99 %, relative to ReLU |"
        yield "|---|---:|---:|---:|---:|---:|---:|"
        for name, entry in found.items():
            steps = [spread(entry["steps"][f"{level:.2f}"]) for level in LEVELS]
            failed = sum(value is None for value in entry["steps"]["0.99"])
            time = _time(rows, task, name, found)
            yield f"| {_escaped(name)} | {entry['rate']:g} | {' | '.join(steps)} | {failed} | {time} |"
        if missing := [name for name in NAMES if name not in found]:
            yield f"\nNot run yet: {', '.join(missing)}."
        own = _median(found[OURS])
        smooth = {name: _median(found[name]) for name in SMOOTH if name in found}
        if "ReLU" in found and smooth:
            best = min(smooth, key=smooth.__getitem__)
            plain = _times(_median(found["ReLU"]), own, task.longer or task.steps)
            yield (
                f"\nTo 99 %: **{plain}** fewer steps than ReLU, "
                f"**{_times(smooth[best], own, task.steps)}** fewer than the best of {', '.join(smooth)}.\n"
            )


def _time(rows: Rows, task: Task, name: str, found: Rows) -> str:
    """Steps times the time of a step, both relative to ReLU."""
    steps = rows.get("cost-dense", {}).get(str(task.width))
    if steps is None or "ReLU" not in found or name not in steps:
        return "not measured"
    own, other = _median(found[name]), _median(found["ReLU"])
    if not math.isfinite(own):
        return "never"
    ratio = own / min(other, task.longer or task.steps) * steps[name] / steps["ReLU"]
    return f"{ratio:.2f}×" if math.isfinite(other) else f"below {ratio:.2f}×"


def _betti(rows: Rows) -> Iterator[str]:
    for title in TASKS:
        if not any(f"{MAIN.counts}/{title}/{name}" in rows for name in MAIN.variants):
            continue
        yield f"### {title}: sum of all Betti numbers of both classes, layer by layer\n"
        yield from _layers(rows, title, MAIN)
        yield (
            f"\nMedians over the networks that came to 99 %, each as it was at its first test at 99 %; where none came "
            f"there, over all as they were after {STEPS:,} steps. Decay: {DECAY:g}, as AdamW does it. {_seen(title)}\n"
        )


def tried(rows: Rows) -> str:
    """How the wave in the first layer was chosen: the same numbers of networks that no other table uses."""
    parts: list[str] = []
    for title in TASKS:
        if any(f"{TRIED.counts}/{title}/{name}" in rows for name in TRIED.variants):
            parts += [f"{title}:\n", *_layers(rows, title, TRIED), ""]
    return "\n".join(parts)


def _layers(rows: Rows, title: str, table: Table) -> Iterator[str]:
    """Variant by variant: steps to 99 %, the sum after each layer, and how fast it falls."""
    found = {name: entry for name in table.variants if (entry := rows.get(f"{table.counts}/{title}/{name}"))}
    layers = next(iter(found.values()))["layers"]
    yield f"| activation | steps | {' | '.join(layers)} | mean share | below half from |"
    yield f"|---|---:|{'---:|' * (len(layers) + 2)}"
    for name, entry in found.items():
        trained = rows[f"{table.networks}/{title}/{name}"]
        networks = counted(entry, trained)
        medians = [f"{value:.0f}" for value in np.median([totals_of(network) for network in networks], 0)]
        half = np.median([halved(network) for network in networks])
        share = np.median([area(network) for network in networks])
        yield (
            f"| {name} | {_trained(trained)} | {' | '.join(medians)} | {share:.2f} | "
            f"{layers[math.ceil(half)] if half < len(layers) else 'never'} |"
        )
    if missing := [name for name in table.variants if name not in found]:
        yield f"\nNot counted yet: {'; '.join(missing)}."


def _trained(row: Rows) -> str:
    steps = row["steps"]
    if all(step is None for step in steps):
        return f"never (best {100 * np.median(row['best']):.1f} %)"
    failed = sum(step is None for step in steps)
    return spread(steps) + (f", {failed} of {len(steps)} failed" if failed else "")


def _seen(title: str) -> str:
    task = TASKS[title]
    points = "the points of a lattice" if task.covered else f"{POINTS:,} random points"
    return f"Counted on {points}, k = {task.neighbours}."


def _images(rows: Rows) -> Iterator[str]:
    cells = {(title, kind): _cell(rows, title, kind) for title in SETS for kind in images.KINDS}
    cells = {where: found for where, found in cells.items() if "ReLU" in found}
    if not cells:
        return
    yield "### Images\n"
    yield (
        f"Convolutions of {', '.join(map(str, images.WIDTHS))} channels, images of full size; "
        f"{len(images.SEEDS)} seeds, {images.STEPS[10]:,} steps of {IMAGE_BATCH} for ten classes and {images.STEPS[2]} "
        f"for two; the best rate of {', '.join(f'{rate:g}' for rate in images.RATES)}, "
        f"by {len(images.TRIAL_SEEDS)} other seeds.\n"
    )
    yield "| images | BatchNorm | steps, ReLU's ÷ ours | final accuracy, ours − best other | best other |"
    yield "|---|---|---:|---:|---|"
    for (title, kind), found in cells.items():
        if OURS not in found or len(found) == 1:
            continue
        goal = _goal(found)
        own, plain = (_quantile(sorted(_steps(found[name], goal)), 0.5) for name in (OURS, "ReLU"))
        ends = {name: float(np.mean(entry["final"])) for name, entry in found.items() if name != OURS}
        best = max(ends, key=ends.__getitem__)
        lead = 100 * (float(np.mean(found[OURS]["final"])) - ends[best])
        times = _times(plain, own, images.STEPS[len(SETS[title][1])])
        yield f"| {title} | {_WITH[kind]} | {times} | {lead:+.2f} | {best} |"
    yield "\nSteps are medians until ReLU's own final accuracy, accuracies means over the seeds, in points.\n"
    for (title, kind), found in cells.items():
        yield from _one(title, kind, found)


_WITH = {kind: "with" if norm else "without" for kind, norm in images.KINDS.items()}


def _cell(rows: Rows, title: str, kind: str) -> dict[str, Any]:
    entries = {name: rows.get(images.row(name, title, kind, "runs")) for name in images.NAMES}
    return {name: entry for name, entry in entries.items() if entry is not None}


def _goal(found: Rows) -> float:
    return float(np.median([final(run) for run in found["ReLU"]["accuracy"]]))


def _steps(entry: Rows, goal: float) -> list[float]:
    steps = [reached(run, goal) for run in entry["accuracy"]]
    return [math.inf if step is None else step for step in steps]


def _one(title: str, kind: str, found: Rows) -> Iterator[str]:
    goal = _goal(found)
    yield f"#### {title}, {_WITH[kind]} BatchNorm\n"
    yield f"Steps until {100 * goal:.1f} %, which is where ReLU ends on the images of the tests on the way.\n"
    yield from _ends(found, goal)
    if missing := [name for name in images.NAMES if name not in found]:
        yield f"\nNot run yet: {', '.join(missing)}."
    yield ""


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


def _off_gpu(found: Rows) -> Iterator[str]:
    """Which were not trained as most were, on a GPU."""
    for words, there in _OFF_GPU.items():
        if named := [name for name, entry in found.items() if there.items() <= entry.items()]:
            yield f"\nTrained {words}: {', '.join(named)}."


def final(accuracies: Sequence[float]) -> float:
    """The mean of the last three tests, all within the last twentieth of the training."""
    return float(np.mean(accuracies[-3:]))


def reached(accuracies: Sequence[float], goal: float) -> float | None:
    """The first step at which a run was as good as that."""
    tests = next(found for steps in images.STEPS.values() if len(found := images.moments(steps)) == len(accuracies))
    return next((float(step) for step, seen in zip(tests, accuracies, strict=True) if seen >= goal), None)


def _candidates(rows: Rows) -> Iterator[str]:
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
        if longer and "ReLU" in (cell := _cell(rows, title, kind)):
            yield f"\nTrained in full, as in the table of {title}, {_WITH[kind]} BatchNorm:\n"
            yield from _ends(longer, _goal(cell))
    yield ""


def _dense(rows: Rows) -> Iterator[str]:
    if "cost-dense" not in rows:
        return
    widths = rows["cost-dense"]
    yield "### A training step of the networks on the sets of known topology, as a ratio to ReLU\n"
    yield f"| activation | {' | '.join(f'{DEPTH} layers of {width}' for width in widths)} |"
    yield f"|---|{'---:|' * len(widths)}"
    for name in next(iter(widths.values())):
        ratios = [steps[name] / steps["ReLU"] for steps in widths.values()]
        yield f"| {_escaped(name)} | {' | '.join(f'{ratio:.2f}×' for ratio in ratios)} |"
    yield f"\nBatches of {BATCH}, Adam, one thread of a CPU.\n"


def _cost(rows: Rows) -> Iterator[str]:
    if "cost" not in rows:
        return
    yield "### Cost, as a ratio to ReLU\n"
    yield "| network | activation | training step | ONNX Runtime, batch 1 | batch 8 |\n|---|---|---:|---:|---:|"
    for title, entry in rows["cost"].items():
        for name in entry["step"]:
            ratios = [row[name] / row["ReLU"] for row in (entry["step"], *entry["onnx"].values())]
            yield f"| {title} | {name} | {' | '.join(f'{ratio:.2f}×' for ratio in ratios)} |"
    yield ""
