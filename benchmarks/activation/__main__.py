"""The topological activation against today's: steps, accuracy, topology, cost.

    python -m benchmarks.activation sets                                    on sets of known topology
    python -m benchmarks.activation networks                                networks for betti, all of the same accuracy
    python -m benchmarks.activation betti                                   through the layers of those networks
    python -m benchmarks.activation tried                                   how ours was chosen there
    python -m benchmarks.activation candidates --fashion DIR --cifar DIR    what was tried in CNNs
    python -m benchmarks.activation images --fashion DIR --cifar DIR        CNNs
    python -m benchmarks.activation cost                                    a training step, and ONNX Runtime
    python -m benchmarks.activation show                                    tables and plots into docs/activation.md

Several parts may be named, and are done in that order. Every result goes into one file as it is made (--results) and is
not made again; a run that was stopped goes on, and one with --deadline stops by itself. With --device cuda, runs are
trained side by side on a GPU; betti and cost stay on the CPU. With --precision bf16 CNNs compute in mixed precision,
for CPUs that are fast in it; rows and tables say so.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch

from benchmarks import (
    activation_betti,
    activation_cost,
    activation_images,
    activation_page,
    activation_plots,
    activation_sets,
)
from benchmarks.activation_betti import MAIN, TRIED
from benchmarks.topology import Results
from topocompress.runtime.files import atomic_file

PARTS = ("sets", "networks", "betti", "tried", "candidates", "images", "cost", "show")
QUICK = 40


def insert(page: Path, what: str, text: str) -> None:
    """Replace what stands between the two marks ``what`` of a page."""
    begin, end = f"<!-- {what} -->", f"<!-- end of what was {what} -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    with atomic_file(page) as temporary:
        temporary.write_text(f"{before}{begin}\n\n{text}\n{end}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/activation.json"))
    parser.add_argument("--weights", type=Path, default=Path("activation-weights"), help="folder for trained networks")
    parser.add_argument("--fashion", type=Path, help="folder with the four gzipped files of Fashion-MNIST")
    parser.add_argument(
        "--cifar", type=Path, help="train/ and test/, a folder of images for each class; or a tar of it"
    )
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of the page")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--deadline", type=float, default=math.inf, help="seconds after which nothing more is begun")
    parser.add_argument("--jobs", type=int, default=1, help="processes that train CNNs")
    parser.add_argument("--precision", choices=("no", "bf16"), default="no", help="of the CNNs")
    parser.add_argument("--quick", action="store_true", help="a few steps of everything, to see that it runs")
    args = parser.parse_args()
    begun = time.time()
    deadline = begun + args.deadline
    activation_images.prepare_process()
    results = Results(args.results)
    if args.quick:
        activation_images.STEPS.update({10: QUICK, 2: QUICK})
    folders = {"fashion": args.fashion, "cifar": args.cifar}
    for part in args.parts:
        if part == "sets":
            activation_sets.study(results, quick=args.quick, device=args.device, deadline=deadline)
        if part == "networks":
            activation_betti.train(results, args.weights, MAIN, device=args.device, deadline=deadline)
        if part == "betti":
            activation_betti.measure(results, args.weights, MAIN)
        if part == "tried":
            activation_betti.train(results, args.weights, TRIED, device=args.device, deadline=deadline)
            activation_betti.measure(results, args.weights, TRIED)
        if part in ("candidates", "images"):
            activation_images.study(
                results,
                folders,
                args.device,
                deadline,
                table=part == "images",
                jobs=args.jobs,
                precision=args.precision,
            )
        if part == "cost":
            results.once("cost", activation_cost.measure)
            results.once("cost-dense", activation_cost.dense)
        if part == "show":
            activation_plots.draw(results.rows, args.docs / "images")
            insert(args.docs / "activation.md", "measured", activation_page.tables(results.rows))
            insert(args.docs / "activation.md", "tried", activation_page.tried(results.rows))
        print(f"{part}: {time.time() - begun:.0f} s since the start", flush=True)


if __name__ == "__main__":
    main()
