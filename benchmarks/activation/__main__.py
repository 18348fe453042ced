"""The command of ``benchmarks.activation``."""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch

from benchmarks import activation
from benchmarks.activation import betti, cost, grid, grid_page, image_grid, images, page, plots, sets
from benchmarks.activation.betti import MAIN, TRIED
from benchmarks.common import results
from benchmarks.common.commands import parser_of
from topocompress.runtime.files import atomic_file

PARTS = ("grid", "image-grid", "sets", "networks", "betti", "tried", "candidates", "images", "cost", "show")
QUICK = 40


def insert(file: Path, what: str, text: str) -> None:
    """Replace what stands between the two marks ``what`` of a page."""
    begin, end = f"<!-- {what} -->", f"<!-- end of what was {what} -->"
    before, _, rest = file.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    with atomic_file(file) as temporary:
        temporary.write_text(f"{before}{begin}\n\n{text}\n{end}{after}", encoding="utf-8")


def main() -> None:
    parser = parser_of(activation)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--results", type=Path, default=results.kept("activation"))
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
    images.prepare_process()
    found = results.Results(args.results)
    if args.quick:
        images.STEPS.update({10: QUICK, 2: QUICK})
    folders = {"fashion": args.fashion, "cifar": args.cifar}
    for part in args.parts:
        if part == "grid":
            grid.study(found, quick=args.quick, deadline=deadline)
        if part == "image-grid":
            image_grid.study(found, folders, quick=args.quick, deadline=deadline)
        if part == "sets":
            sets.study(found, quick=args.quick, device=args.device, deadline=deadline)
        if part == "networks":
            betti.train(found, args.weights, MAIN, device=args.device, deadline=deadline)
        if part == "betti":
            betti.measure(found, args.weights, MAIN)
        if part == "tried":
            betti.train(found, args.weights, TRIED, device=args.device, deadline=deadline)
            betti.measure(found, args.weights, TRIED)
        if part in ("candidates", "images"):
            images.study(
                found,
                folders,
                args.device,
                deadline,
                table=part == "images",
                jobs=args.jobs,
                precision=args.precision,
            )
        if part == "cost":
            found.once("cost", cost.measure)
            found.once("cost-dense", cost.dense)
        if part == "show":
            plots.draw(found.rows, args.docs / "images")
            insert(args.docs / "research" / "activation.md", "grid", grid_page.text(found.rows))
            insert(args.docs / "research" / "activation.md", "image grid", image_grid.text(found.rows))
            insert(args.docs / "research" / "activation.md", "measured", page.tables(found.rows))
            insert(args.docs / "research" / "activation.md", "tried", page.tried(found.rows))
        print(f"{part}: {time.time() - begun:.0f} s since the start", flush=True)


if __name__ == "__main__":
    main()
