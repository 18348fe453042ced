"""The command of ``benchmarks.reconstruction``."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import reconstruction
from benchmarks.arena.rows import BASELINES
from benchmarks.arena.setting import CHAINS, NETWORKS, RATIOS, SEEDS, Setting, prepare_images
from benchmarks.arena.study import Subject
from benchmarks.common.commands import add_places, parser_of
from benchmarks.common.networks import images_at_224, untrained
from benchmarks.common.results import Results, kept
from benchmarks.reconstruction import cells
from benchmarks.reconstruction.single import correlations, losses
from benchmarks.reconstruction.summary import table
from topocompress import apply, plan, reconstruct, score
from topocompress.criteria.registry import split_names
from topocompress.network.inference import evaluating, run_forward

SAMPLES = 500


def main() -> None:
    parser = parser_of(reconstruction)
    parser.add_argument("part", choices=("run", "pipeline", "single", "cost", "show"))
    add_places(parser)
    parser.add_argument("--work", type=Path, default=Path("reconstruction-work"))
    parser.add_argument("--networks", default=",".join(NETWORKS), help=f"also {', '.join(CHAINS)}")
    parser.add_argument("--criteria", default=",".join(("persistence", "persistence@global", *BASELINES)))
    parser.add_argument("--sets", type=int, default=SEEDS, help="of calibration images")
    parser.add_argument("--epochs", type=int, default=0, help="of fine-tuning after reconstruction")
    parser.add_argument("--blocks", type=int, default=0, help="epochs in which blocks are distilled after it")
    parser.add_argument("--every", type=int, default=3, help="one filter in so many is removed by itself")
    parser.add_argument("--ratios", default=",".join(map(str, RATIOS)))
    parser.add_argument("--precision", choices=("no", "bf16"), default="no", help="of fine-tuning")
    parser.add_argument("--results", type=Path, default=kept("reconstruction"))
    args = parser.parse_args()
    results = Results(args.results)
    setting = Setting(
        weights=args.weights,
        data={"cifar": args.cifar, "fashion": args.fashion},
        work=args.work,
        samples=SAMPLES,
        precision=args.precision,
    )
    ratios = [float(ratio) for ratio in args.ratios.split(",")]
    networks = args.networks.split(",") if args.part in ("run", "pipeline", "single") else []
    for network in networks:
        prepare_images(setting, {**NETWORKS, **CHAINS}[network], jobs=2)
        if args.part == "run":
            names, repeated = split_names(args.criteria), {"epochs": args.epochs, "blocks": args.blocks}
            cells.criteria(setting, network, names, ratios, args.sets, results, **repeated)
        elif args.part == "single":
            subject = Subject(network, setting)
            found = losses(subject, args.every, results)
            ranks = correlations(subject, split_names(args.criteria), found)
            results.once(f"ranks {network}", lambda ranks=ranks: ranks)
        else:
            cells.pipeline(setting, network, ratios, args.sets, results)
    if args.part == "cost":
        for name in ("resnet18", "resnet50"):
            results.once(f"cost {name}", lambda name=name: cost(name))
    print(table(results.rows))


def cost(name: str) -> dict[str, float]:
    """Processor seconds of reconstruction with half of every layer gone, in bare forward passes over all samples.

    With how many of them fitted into memory side by side: it is those that layers are fitted to.
    """
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
    used: list[int] = []
    spent = _seconds(lambda: used.append(reconstruct(smaller, model, chosen, batches).samples))
    return {"forward passes": round(spent / bare, 2), "samples": used[0]}


def _seconds(work: Callable[[], Any]) -> float:
    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    started = used()
    work()
    return used() - started


if __name__ == "__main__":
    main()
