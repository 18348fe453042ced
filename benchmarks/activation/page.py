"""What the study has found, as tables for ``docs/research/activation.md``."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from benchmarks.activation.betti import DECAY, MAIN, POINTS, STEPS, TRIED, Table, area, counted, halved, totals_of
from benchmarks.activation.image_page import Rows, candidate_tables, image_tables
from benchmarks.activation.sets import DEPTH, NAMES, RATES, SEEDS, TASKS
from benchmarks.activation.stack import BATCH
from benchmarks.activation.steps import spread


def tables(rows: Rows) -> str:
    """Everything that has been measured so far, in Markdown."""
    parts = [*_sets(rows), *_betti(rows), *image_tables(rows), *candidate_tables(rows), *_cost(rows), *_dense(rows)]
    return "\n".join(parts) + "\n"


def _escaped(name: str) -> str:
    return name.replace("|", r"\|")


def _sets(rows: Rows) -> Iterator[str]:
    found = {name: [rows.get(f"sets/{title}/{name}/runs") for title in TASKS] for name in NAMES}
    if not any(any(entries) for entries in found.values()):
        return
    yield "### Named settings on sets of known topology\n"
    yield f"| activation | {' | '.join(TASKS)} |"
    yield f"|---|{'---:|' * len(TASKS)}"
    for name, entries in found.items():
        if any(entries):
            yield f"| {_escaped(name)} | {' | '.join(_arrival(entry) for entry in entries)} |"
    widths = ", ".join(str(task.width) for task in TASKS.values())
    yield (
        f"\nSteps to 99 %, medians and quartiles of {len(SEEDS)} seeds, the best of {len(RATES)} rates; {DEPTH} hidden "
        f"layers of {widths}, batches of {BATCH}, Adam, weights so that outputs start with mean square 1.\n"
    )


def _arrival(entry: Rows | None) -> str:
    return "not run" if entry is None else spread(entry["steps"]["0.99"])


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
    yield "\nOurs is here the one without a setting, after a batch that it has fitted itself to.\n"
