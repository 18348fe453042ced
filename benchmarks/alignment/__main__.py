"""The command of ``benchmarks.alignment``."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import alignment
from benchmarks.alignment.tables import ALIGNMENTS, BATCHES, tables
from benchmarks.common.commands import parser_of
from benchmarks.common.networks import images_at_224, untrained
from benchmarks.common.results import kept, read, write
from topocompress.dependencies.groups import find_groups
from topocompress.deploy.export import export_onnx
from topocompress.deploy.latency import compare_latency
from topocompress.deploy.measurement import count_macs
from topocompress.errors import PlanError
from topocompress.planning.plan import make_plan
from topocompress.planning.rules import Limits
from topocompress.reporting import environment
from topocompress.surgery.removal import apply
from topocompress.workflows.single_steps import layer_costs, score

NETWORKS = ("mobilenet_v3_small", "mobilenet_v3_large", "resnet18", "efficientnet_b0", "regnet_y_400mf", "densenet121")
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
    rows: dict[str, Any] = read(args.results)
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
                write(args.results, rows)
                print(f"{key}: done", flush=True)


def main() -> None:
    parser = parser_of(alignment)
    parser.add_argument("part", choices=("run", "show"))
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--target-macs", type=float, default=0.6)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--results", type=Path, default=kept("alignment"))
    args = parser.parse_args()
    if args.part == "run":
        run(args)
    if args.results.exists():
        print(tables(read(args.results)))


if __name__ == "__main__":
    main()
