"""What ``--round-to`` is worth: speed in ONNX Runtime on the CPU at equal multiply-accumulates.

    python -m benchmarks.alignment run     every network pruned at every alignment, timed side by side
    python -m benchmarks.alignment show    the tables

Every network is pruned by L1 to the same share of its MACs (--target-macs) with every alignment; the files of one
network are timed in turn in one run together with the original. One number is the median over the blocks of the ratio
of the medians within a block; files are loaded anew for each block. Results go into one file as they are made
(--results) and are not made again; a run that was stopped goes on. Turns (--turns) repeat all of it later, to see what
holds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from benchmarks.networks import images_at_224, untrained
from topocompress.dependencies.groups import find_groups
from topocompress.deploy.export import export_onnx
from topocompress.deploy.latency import compare_latency
from topocompress.deploy.measurement import count_macs
from topocompress.errors import PlanError
from topocompress.planning.plan import make_plan
from topocompress.planning.rules import Limits
from topocompress.reporting import environment
from topocompress.runtime.files import atomic_file
from topocompress.surgery.removal import apply
from topocompress.workflows.single_steps import layer_costs, score

NETWORKS = ("mobilenet_v3_small", "mobilenet_v3_large", "resnet18", "efficientnet_b0", "regnet_y_400mf", "densenet121")
ALIGNMENTS: tuple[int | Literal["auto"], ...] = (1, 2, 4, 8, 16, 32, "auto")
BATCHES = (1, 8)
_RUNS = {1: 9, 8: 3}


def build(name: str, target: float, folder: Path) -> dict[str, dict[str, Any]]:
    """Write the original and one file per alignment; alignment (or ``original``) → file and MACs."""
    model = untrained(name, images_at_224(None, 64))
    example = torch.zeros(1, 3, 224, 224)
    samples = images_at_224(None, 2)[0][0]
    groups, costs = find_groups(model, example), layer_costs(model, example)
    scores = score(model, example=example, criterion="l1")
    made = {"original": _write(model, folder / f"{name}.onnx", samples)}
    for align in ALIGNMENTS:
        try:
            plan = make_plan(scores, groups, costs, target_macs=target, limits=Limits(round_to=align))
        except PlanError as error:  # narrow networks cannot reach the target in large steps
            made[str(align)] = {"refused": error.what}
            continue
        smaller = apply(model, plan, example=example)
        made[str(align)] = _write(smaller, folder / f"{name}-{align}.onnx", samples)
    return made


def _write(model: nn.Module, path: Path, samples: torch.Tensor) -> dict[str, Any]:
    export_onnx(model, path, samples=samples)
    return {"path": path, "macs": count_macs(model, samples[:1])}


def compare(made: Mapping[str, Mapping[str, Any]], blocks: int) -> dict[str, Any]:
    """Time all files in turn: alignment → MACs reduction, and per batch size the speed-up of each block."""
    files = {name: entry for name, entry in made.items() if "path" in entry}
    sample = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)).numpy()
    found: dict[str, Any] = {
        name: {"macs_reduction": made["original"]["macs"] / entry["macs"], **{f"batch {b}": [] for b in BATCHES}}
        for name, entry in files.items()
    }
    for _ in range(blocks):
        for batch in BATCHES:
            latencies = compare_latency(
                [entry["path"] for entry in files.values()],
                sample=sample,
                batch_sizes=(batch,),
                runs=_RUNS[batch],
                warmup=2,
            )
            medians = {name: each[0].median_ms for name, each in zip(files, latencies, strict=True)}
            for name, median in medians.items():
                found[name][f"batch {batch}"].append(medians["original"] / median)
            found["original"].setdefault("median_ms", {}).setdefault(str(batch), []).append(medians["original"])
    return found | {name: dict(entry) for name, entry in made.items() if "refused" in entry}


def run(args: argparse.Namespace) -> None:
    """All networks, turn after turn."""
    rows: dict[str, Any] = json.loads(args.results.read_text(encoding="utf-8")) if args.results.exists() else {}
    built: dict[str, dict[str, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(args.turns):
            for name in args.networks:
                key = f"{name}/{turn}"
                if key in rows:
                    continue
                if name not in built:
                    built[name] = build(name, args.target_macs, Path(scratch))
                rows[key] = compare(built[name], args.blocks)
                rows["machine"] = {**environment.describe(), "target_macs": args.target_macs}
                with atomic_file(args.results) as temporary:
                    temporary.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
                print(f"{key}: done", flush=True)


def tables(rows: Mapping[str, Any]) -> str:
    """Markdown: per network and alignment the MACs reduction, speed-up and efficiency; then all networks together."""
    parts = []
    if machine := rows.get("machine"):
        parts.append(
            f"{machine['processor']}, {machine['cores']} cores; onnxruntime {machine['versions']['onnxruntime']}; "
            f"target {machine['target_macs']:g} of the MACs."
        )
    networks = list(dict.fromkeys(key.partition("/")[0] for key in rows if "/" in key))
    for batch in BATCHES:
        lines = [
            f"| network, batch {batch} | round to | MACs fewer | times faster, lowest–highest block | per turn "
            "| efficiency |",
            "|---|---:|---:|---|---|---:|",
        ]
        for name in networks:
            turns = [row for key, row in rows.items() if key.partition("/")[0] == name]
            lines += [_line(name, str(align), turns, batch) for align in ALIGNMENTS]
        parts += ["\n".join(lines), _summary(rows, networks, batch)]
    return "\n\n".join(parts)


def _line(name: str, align: str, turns: Sequence[Mapping[str, Any]], batch: int) -> str:
    if "refused" in turns[0][align]:
        return f"| {name} | {align} | | out of reach | | |"
    each = [turn[align][f"batch {batch}"] for turn in turns]
    every = [ratio for blocks in each for ratio in blocks]
    fewer = turns[0][align]["macs_reduction"]
    per_turn = ", ".join(f"{statistics.median(blocks):.2f}" for blocks in each)
    return (
        f"| {name} | {align} | {fewer:.2f} | {statistics.median(every):.2f} ({min(every):.2f}–{max(every):.2f}) "
        f"| {per_turn} | {statistics.median(every) / fewer:.2f} |"
    )


def _summary(rows: Mapping[str, Any], networks: Sequence[str], batch: int) -> str:
    """Geometric means over the networks that every alignment can prune to the target."""
    turns = {name: [row for key, row in rows.items() if key.partition("/")[0] == name] for name in networks}
    shared = [name for name in networks if not any("refused" in turns[name][0][str(align)] for align in ALIGNMENTS)]
    if not shared:
        return ""
    lines = [
        f"| {len(shared)} networks, batch {batch}, geometric mean | MACs fewer | times faster | efficiency |",
        "|---|---:|---:|---:|",
    ]
    for align in map(str, ALIGNMENTS):
        fewer = statistics.geometric_mean([turns[name][0][align]["macs_reduction"] for name in shared])
        faster = statistics.geometric_mean(
            [
                statistics.median([ratio for turn in turns[name] for ratio in turn[align][f"batch {batch}"]])
                for name in shared
            ]
        )
        lines.append(f"| round to {align} | {fewer:.2f} | {faster:.2f} | {faster / fewer:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("run", "show"))
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--target-macs", type=float, default=0.6)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/alignment.json"))
    args = parser.parse_args()
    if args.part == "run":
        run(args)
    if args.results.exists():
        print(tables(json.loads(args.results.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
