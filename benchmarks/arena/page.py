"""What the arena has found, as tables for ``docs/research/criteria.md``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arena.rows import (
    AS_TUNED,
    BASELINES,
    BETWEEN,
    EPOCHS,
    FIRST_BETWEEN,
    FIRST_PLAIN,
    ORACLE_ONLY,
    OURS,
    PLAIN,
    VARIANTS,
    inner_layers,
    name_of,
    with_tuning,
)
from benchmarks.arena.scores import read_scores, scored_as
from benchmarks.arena.setting import NETWORKS, RATIOS, SEEDS, Setting
from benchmarks.arena.work import Results
from benchmarks.common.oracle import correlations
from topocompress.runtime.files import atomic_file
from topocompress.workflows.compare import GLOBAL

Rows = Mapping[str, Any]
END = "<!-- end -->"
PLACES = {0.25: "25 %", 0.375: "37.5 %", 0.5: "50 %"}
UNIFORM = (OURS, *BASELINES, *VARIANTS, *BETWEEN)
FREE = (OURS, *(f"{name}{GLOBAL}" for name in (OURS, PLAIN, FIRST_PLAIN)), "taylor", f"taylor{GLOBAL}")


def write(rows: Rows, page: Path) -> None:
    """Put every table between its marks, ``<!-- arena: NAME -->`` and ``<!-- end -->``."""
    text = page.read_text(encoding="utf-8")
    made = {
        **{f"{name}": lasting(rows, name) for name in NETWORKS},
        **{f"{name} tuned": tuned(rows, name) for name in NETWORKS},
        **{f"{name} global": free(rows, name) for name in NETWORKS},
        **{f"{name} oracle": oracle(rows, name) for name in NETWORKS if name != "fashion"},
    }
    for name, table in made.items():
        mark = f"<!-- arena: {name} -->"
        if mark in text and table:
            before, _, rest = text.partition(mark)
            after = rest.partition(END)[2]
            text = f"{before}{mark}\n\n{table}\n\n{END}{after}"
    with atomic_file(page) as temporary:
        temporary.write_text(text, encoding="utf-8")


def of(rows: Rows, network: str, name: str, ratio: float, epochs: int = 0) -> list[dict[str, Any]]:
    """The results of a criterion at a ratio, one for each set that has one.

    Without ``epochs`` those with fine-tuning count as well where they say the same of the stages before it; with them
    those under the name that spells the setting out.
    """
    found = []
    spelled = scored_as(name, epochs) + GLOBAL * name.endswith(GLOBAL)
    for seed in range(SEEDS):
        row, other = (("cell", network, each, f"{ratio:g}", str(seed), str(epochs)) for each in (name, spelled))
        keys = [name_of(each) for each in (with_tuning(row), row, other)]
        if there := [rows[key] for key in keys if key in rows]:
            found.append(there[0])
    return found


def spread(cells: Sequence[Mapping[str, Any]], stage: str) -> str:
    """Mean ± standard deviation in percent; says so if sets are missing, a dash if all are."""
    values = [100 * cell[stage] for cell in cells if stage in cell]
    if not values:
        return "–"
    deviation = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    few = "" if len(values) == SEEDS else f" ({len(values)} of {SEEDS} sets)"
    return f"{np.mean(values):.1f}{deviation}{few}"


def mean(cells: Sequence[Mapping[str, Any]], stage: str) -> float | None:
    """Mean in percent; ``None`` if nothing has been measured."""
    values = [100 * cell[stage] for cell in cells if stage in cell]
    return float(np.mean(values)) if values else None


def lasting(rows: Rows, network: str) -> str:
    """What is left right after removal, and after BatchNorm re-estimation."""

    def text(cells: Sequence[Mapping[str, Any]]) -> str:
        settled = mean(cells, "settled")
        return spread(cells, "removed") if settled is None else f"{spread(cells, 'removed')} → {settled:.1f}"

    found = {name: [of(rows, network, name, ratio) for ratio in RATIOS] for name in (*UNIFORM, AS_TUNED)}
    return "\n".join(_table(found, "removed", text))


def tuned(rows: Rows, network: str) -> str:
    """What is left after fine-tuning, and by how much ``persistence`` is ahead of the best baseline."""
    names = (*UNIFORM, PLAIN, FIRST_PLAIN, FIRST_BETWEEN)
    found = {name: [of(rows, network, name, ratio, EPOCHS) for ratio in RATIOS] for name in names}
    lines = list(_table(found, "tuned", lambda cells: spread(cells, "tuned")))
    if lines and (by := ahead(rows, network)):
        lines += ["", f"`{OURS}` against the best baseline: {by}."]
    return "\n".join(lines)


def ahead(rows: Rows, network: str) -> str:
    """By how much ``persistence`` is ahead of the best baseline after fine-tuning, ratio by ratio."""
    found = []
    for ratio in RATIOS:
        own = mean(of(rows, network, OURS, ratio, EPOCHS), "tuned")
        means = {name: mean(of(rows, network, name, ratio, EPOCHS), "tuned") for name in BASELINES}
        others = {name: value for name, value in means.items() if value is not None}
        if own is not None and others:
            best = max(others, key=lambda name: others[name])
            found.append(f"{round(own - others[best], 2) + 0.0:+.2f} points at {PLACES[ratio]} (`{best}`)")
    return ", ".join(found)


def _table(found: Mapping[str, list[list[dict[str, Any]]]], stage: str, text: Any) -> Iterator[str]:
    order = {name: [mean(cells, stage) for cells in columns] for name, columns in found.items()}
    known = {name: [value for value in values if value is not None] for name, values in order.items()}
    names = sorted((name for name in found if known[name]), key=lambda name: (-len(known[name]), -np.mean(known[name])))
    if not names:
        return
    yield f"| criterion | {' | '.join(PLACES[ratio] for ratio in RATIOS)} |"
    yield "|---|" + "---:|" * len(RATIOS)
    for name in names:
        yield f"| `{name}` | {' | '.join(text(cells) for cells in found[name])} |"


def free(rows: Rows, network: str) -> str:
    """Uniform widths against those that the criterion chooses, at the same multiply-accumulates."""
    lines = []
    for name in FREE:
        columns = [[of(rows, network, name, ratio, epochs) for epochs in (0, EPOCHS)] for ratio in RATIOS]
        if not any(plain or tuned for plain, tuned in columns):
            continue
        parts = []
        for plain, tuned in columns:
            stages = [mean(plain, "removed"), mean(plain, "settled"), mean(tuned, "tuned")]
            parts.append(" → ".join(f"{value:.1f}" for value in stages if value is not None) or "–")
        lines.append(f"| `{name}` | {' | '.join(parts)} |")
    if not any(GLOBAL in line for line in lines):
        return ""
    head = [f"| criterion | {' | '.join(PLACES[ratio] for ratio in RATIOS)} |", "|---|" + "---:|" * len(RATIOS)]
    return "\n".join([*head, *lines])


def rank(results: Results, setting: Setting) -> None:
    """Add the rank correlations of all scores that are there with the oracles that are complete."""
    for network in ("resnet20", "resnet56"):
        layers = inner_layers(network)
        asked = [results.rows.get(f"oracle/{network}/{layer}") for layer in layers]
        if not all(asked):
            continue
        truths = [[np.array(values)[:, column] for values in asked] for column in (0, 1)]
        for name in (OURS, *BASELINES, *VARIANTS, *ORACLE_ONLY):
            for seed in range(SEEDS):
                file, key = setting.scores_file(network, name, seed), f"rank/{network}/{name}/{seed}"
                if key in results.rows or not file.exists():
                    continue
                scores = read_scores(file)
                sign = 1.0 if scores.higher == "keep" else -1.0
                values = [(sign * scores.layers[layer].values).tolist() for layer in layers]
                found = [value for truth in truths for value in correlations(truth, values)]
                results.rows[key] = [round(value, 4) for value in found]
    results.save()


def oracle(rows: Rows, network: str) -> str:
    """Rank correlation with what each filter does alone."""
    lines = []
    for name in (OURS, *BASELINES, *VARIANTS, *ORACLE_ONLY):
        found = [rows[key] for seed in range(SEEDS) if (key := f"rank/{network}/{name}/{seed}") in rows]
        if found:
            columns = zip(np.mean(found, axis=0), np.std(found, axis=0), strict=True)
            text = " | ".join(f"{value:.2f} ± {deviation:.2f}" for value, deviation in columns)
            lines.append((-float(np.mean(found, axis=0)[0]), f"| `{name}` | {text} |"))
    if not lines:
        return ""
    head = ["| criterion | loss: all filters | within layers | divergence: all filters | within layers |"]
    return "\n".join([*head, "|---|---:|---:|---:|---:|", *(line for _, line in sorted(lines))])
