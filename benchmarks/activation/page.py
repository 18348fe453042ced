"""What the study has found, as tables for ``docs/research/activation.md``."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from benchmarks.activation.betti import DECAY, MAIN, POINTS, STEPS, TRIED, Table, area, counted, halved, totals_of
from benchmarks.activation.image_page import Rows, candidate_tables, image_tables
from benchmarks.activation.sets import DEPTH, NAMES, RATES, SEEDS, TASKS, Task
from benchmarks.activation.stack import BATCH, LEVELS
from benchmarks.activation.steps import median_steps, spread, times_fewer
from benchmarks.activation.zoo import OURS, SMOOTH


def tables(rows: Rows) -> str:
    """Everything that has been measured so far, in Markdown."""
    parts = [*_sets(rows), *_betti(rows), *image_tables(rows), *candidate_tables(rows), *_cost(rows), *_dense(rows)]
    return "\n".join(parts) + "\n"


def _escaped(name: str) -> str:
    return name.replace("|", r"\|")


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
        own = median_steps(found[OURS])
        smooth = {name: median_steps(found[name]) for name in SMOOTH if name in found}
        if "ReLU" in found and smooth:
            best = min(smooth, key=smooth.__getitem__)
            plain = times_fewer(median_steps(found["ReLU"]), own, task.longer or task.steps)
            yield (
                f"\nTo 99 %: **{plain}** fewer steps than ReLU, "
                f"**{times_fewer(smooth[best], own, task.steps)}** fewer than the best of {', '.join(smooth)}.\n"
            )


def _time(rows: Rows, task: Task, name: str, found: Rows) -> str:
    """Steps times the time of a step, both relative to ReLU."""
    steps = rows.get("cost-dense", {}).get(str(task.width))
    if steps is None or "ReLU" not in found or name not in steps:
        return "not measured"
    own, other = median_steps(found[name]), median_steps(found["ReLU"])
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
