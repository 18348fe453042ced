"""The command of ``benchmarks.arena``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from benchmarks import arena
from benchmarks.arena import page, work
from benchmarks.arena import rows as study
from benchmarks.arena.setting import NETWORKS, SEEDS, Setting, prepare_images
from benchmarks.common.commands import parser_of
from benchmarks.common.results import kept, read
from topocompress.criteria.registry import split_names
from topocompress.reporting import environment


def setting_of(args: argparse.Namespace) -> Setting:
    sizes = {"samples": 40, "images": 300, "training": 600} if args.quick else {}
    return Setting(
        weights=args.weights,
        data={"cifar": args.cifar, "fashion": args.fashion},
        work=args.work,
        device=args.device,
        recorded=args.recorded,
        precision=args.precision,
        **sizes,
    )


def run(args: argparse.Namespace, until: float) -> None:
    """Everything that is missing, by several processes."""
    setting, results = setting_of(args), work.Results(args.results)
    networks = args.networks.split(",")
    begun = time.time()
    for name in networks:
        prepare_images(setting, NETWORKS[name], args.jobs)
    print(f"images: {time.time() - begun:.1f} s", flush=True)
    results.rows[f"run on {args.device}"] = {**environment.describe(), "jobs": args.jobs, "precision": args.precision}

    def missing(rows: list[study.Row]) -> list[study.Row]:
        left = [row for row in rows if row[1] in networks and not study.known(row, results.rows)]
        return [row for row in left if not args.quick or row[0] != "cell" or int(row[4]) < args.sets]

    heavy, light, last = (missing(rows) for rows in (study.heavy(), study.light(args.device), study.last()))
    if args.only:
        epochs = 0 if args.plain else study.EPOCHS
        heavy, light, last = [], [], missing(study.aimed(split_names(args.only), networks, epochs))
    elif args.plain:
        heavy, light = [], []
    light = [*missing(study.scored_first(setting, [*heavy, *light, *last])), *light]
    first = max(1, args.jobs // 3)
    rows = [[*light, *last, *heavy] if number < first else [*heavy, *light, *last] for number in range(args.jobs)]
    tuned = sum(row[0] == "cell" and row[-1] != "0" for row in [*heavy, *last])
    print(f"{tuned} cells with fine-tuning, {len(heavy) + len(light) + len(last) - tuned} other rows", flush=True)
    command = [sys.executable, "-m", "benchmarks.arena", "work", *sys.argv[2:], "--until", str(until), "--rows"]

    def collect() -> int:
        if found := results.collect(setting.work / "done"):
            print(f"{time.time() - begun:.0f} s: {found} more", flush=True)
        if time.time() > until + 5:
            raise TimeoutError
        return found

    try:
        work.share_out(rows, command, setting.work, collect)
    except TimeoutError:
        print("stopped at the deadline", flush=True)
    results.save()
    print(f"{time.time() - begun:.1f} s in all", flush=True)


def main() -> None:
    parser = parser_of(arena)
    parser.add_argument("part", choices=("scores", "run", "work", "show"))
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--cifar", type=Path, default=Path("cifar"))
    parser.add_argument("--fashion", type=Path, default=Path("fashion-data"))
    parser.add_argument("--work", type=Path, default=Path("arena-work"))
    parser.add_argument("--results", type=Path, default=kept("arena"))
    parser.add_argument("--docs", type=Path, default=Path("docs/research/criteria.md"))
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--recorded", action="store_true", help="train by recorded steps (CUDA graphs)")
    parser.add_argument("--precision", choices=("no", "bf16"), default="no", help="of fine-tuning")
    parser.add_argument("--plain", action="store_true", help="cells without fine-tuning alone")
    parser.add_argument("--only", metavar="NAME,...", help="cells of these criteria alone; NETWORK/NAME on one network")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--deadline", type=float, default=float("inf"), help="seconds after which no more is done")
    parser.add_argument("--quick", action="store_true", help="a few images of everything, to see that it runs")
    parser.add_argument("--sets", type=int, default=SEEDS, help="with --quick: so many sets of calibration samples")
    parser.add_argument("--until", type=float, default=float("inf"), help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part == "scores":
        setting = setting_of(args)
        for name in args.networks.split(","):
            prepare_images(setting, NETWORKS[name], args.jobs)
        work.scoring(setting, args.networks.split(","))
    if args.part == "run":
        run(args, time.time() + args.deadline)
    if args.part == "work":
        torch.set_num_threads(1)
        rows = [tuple(row) for row in read(args.rows)]
        work.Worker(setting_of(args), work.Results(args.results).rows).work(rows, args.until)
    if args.part in ("run", "show"):
        results = work.Results(args.results)
        page.rank(results, setting_of(args))
        page.write(results.rows, args.docs)


if __name__ == "__main__":
    main()
