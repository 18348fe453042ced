"""The topological activation against today's: steps, accuracy, topology, cost.

    python -m benchmarks.activation sets                                  on sets of known topology
    python -m benchmarks.activation betti                                 through the layers of what was trained there
    python -m benchmarks.activation cost                                  a training step, and ONNX Runtime
    python -m benchmarks.activation show                                  tables and plots into docs/activation.md
    python -m benchmarks.activation images --fashion DIR --cifar DIR      small CNNs

Every result goes into one file as it is made (--results) and is not made again; a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
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
from benchmarks.topology import Results
from topocompress.files import atomic_file

BEGIN, END = "<!-- measured -->", "<!-- end of what was measured -->"


def insert(page: Path, text: str) -> None:
    """Replace what stands between the two marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    with atomic_file(page) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("sets", "betti", "images", "cost", "show"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/activation.json"))
    parser.add_argument("--weights", type=Path, default=Path("activation-weights"), help="folder for trained networks")
    parser.add_argument("--fashion", type=Path, help="folder with the four gzipped files of Fashion-MNIST")
    parser.add_argument("--cifar", type=Path, help="folder with train/ and test/, a folder of images for each class")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of the page")
    parser.add_argument("--quick", action="store_true", help="a few steps of everything, to see that it runs")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = Results(args.results)
    if args.part == "sets":
        activation_sets.study(results, args.weights, quick=args.quick)
    if args.part == "betti":
        activation_betti.measure(results, args.weights)
    if args.part == "cost":
        results.once("cost", activation_cost.measure)
    if args.part == "show":
        activation_plots.draw(results.rows, args.docs / "images")
        insert(args.docs / "activation.md", activation_page.tables(results.rows))
    if args.part == "images":
        activation_images.study(results, {"fashion": args.fashion, "cifar": args.cifar})


if __name__ == "__main__":
    main()
