"""The command of ``benchmarks.reconstruction``."""

from __future__ import annotations

import itertools
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.utils.data import Subset

from benchmarks import reconstruction
from benchmarks.common.cifar_resnet import INNER_ONLY
from benchmarks.common.commands import parser_of
from benchmarks.common.networks import images_at_224, untrained
from benchmarks.common.results import Results, kept
from benchmarks.reconstruction.summary import table
from topocompress import apply, plan, reconstruct, score
from topocompress.criteria.registry import create
from topocompress.data.loading import load_data
from topocompress.models.loading import load_model
from topocompress.network.inference import evaluating, run_forward
from topocompress.workflows.controls import left_after_removal
from topocompress.workflows.job import Job
from topocompress.workflows.options import Removal, Scoring
from topocompress.workflows.selecting import select
from topocompress.workflows.shrinking import removed

RATIOS = (0.25, 0.375, 0.5)
SAMPLES = 500


def main() -> None:
    parser = parser_of(reconstruction)
    parser.add_argument("part", choices=("run", "cost", "show"))
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--cifar")
    parser.add_argument("--networks", default="resnet20,resnet56")
    parser.add_argument("--criteria", default="persistence,l1,random,betti")
    parser.add_argument("--seeds", type=int, default=3, help="sets of calibration images")
    parser.add_argument("--results", type=Path, default=kept("reconstruction"))
    args = parser.parse_args()
    results = Results(args.results)
    if args.part == "run":
        run(args, results)
    elif args.part == "cost":
        for name in ("resnet18", "resnet50"):
            results.once(f"cost {name}", lambda name=name: cost(name))
    print(table(results.rows))


def run(args: Any, results: Results) -> None:
    for network in args.networks.split(","):
        file = args.weights / f"{network}-cifar10.safetensors"
        loaded = load_model(file, arch=f"benchmarks.common.cifar_resnet:{network}")
        data = load_data(
            f"imagefolder:{args.cifar}",
            preprocessing=loaded.preprocessing,
            samples=SAMPLES * args.seeds,
            eval_samples=10_000,
        )
        for seed, criterion in itertools.product(range(args.seeds), args.criteria.split(",")):
            part = Subset(data.calibration, range(seed * SAMPLES, (seed + 1) * SAMPLES))
            job = Job(
                loaded=loaded,
                data=replace(data, calibration=part),
                seed=seed,
                removal=Removal(ignore=INNER_ONLY, round_to=1),
                scoring=Scoring(criterion=create(criterion, **({"seed": seed} if criterion == "random" else {}))),
            )
            cells(job, f"{network} {criterion} {seed}", results)


def cells(job: Job, name: str, results: Results) -> None:
    """Every ratio of one criterion and one set of images."""
    scored: list[Any] = []

    def cell(ratio: float) -> dict[str, Any]:
        scored[:] = scored or [select(job)]
        shrunk = removed(job, scored[0].plan({"ratio": ratio}))
        before = job.evaluated(job.model, "")
        left = left_after_removal(job, shrunk, before)
        print(name, ratio, left["accuracy_recalibrated"], left["accuracy_repaired"], flush=True)
        return {"original": before.accuracy, "macs": shrunk.plan.macs_after / shrunk.plan.macs_before} | {
            stage: left[stage] for stage in ("accuracy", "accuracy_recalibrated", "accuracy_repaired", "statistics")
        }

    for ratio in RATIOS:
        results.once(f"{name} {ratio:g}", lambda ratio=ratio: cell(ratio))


def cost(name: str) -> dict[str, float]:
    """Processor seconds of reconstruction with half of every layer gone, in bare forward passes."""
    batches = images_at_224(None, SAMPLES, batch=50)
    model = untrained(name, batches)
    example = batches[0][0][:1]
    scores = score(model, None, example=example, criterion="l1")
    chosen = plan(model, scores, example=example, ratio=0.5)
    smaller = apply(model, chosen, example=example)

    def forward() -> None:
        with evaluating(model):
            for images, _ in batches:
                run_forward(model, images)

    bare = min(_seconds(forward) for _ in range(2))
    spent = _seconds(lambda: reconstruct(smaller, model, chosen, batches))
    return {"forward passes": round(spent / bare, 2)}


def _seconds(work: Callable[[], Any]) -> float:
    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    started = used()
    work()
    return used() - started


if __name__ == "__main__":
    main()
