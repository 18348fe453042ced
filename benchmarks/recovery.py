"""How much accuracy half the multiply-accumulates keep, against the unpruned network after the same fine-tuning.

    python -m benchmarks.recovery CHECKPOINT --arch benchmarks.cifar_resnet:resnet20 --data imagefolder:CIFAR_FOLDER \\
        --ignore conv1 --ignore 'layer*.conv2' --epochs 4 --out FOLDER

The unpruned network is fine-tuned by a recipe, then the network is pruned to ``--target-macs`` and fine-tuned by the
very same: same images, epochs, rates and seed. Both learn from the labels and from the original network, half each.
Everything is measured on the same held-out images, and the number is the difference of the two. FOLDER/run is the run
directory of the pruned network; FOLDER/recovery.json has the numbers. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from topocompress import compress, environment
from topocompress.data import batches, load_data
from topocompress.files import atomic_file
from topocompress.finetuning import finetune
from topocompress.measurement import evaluate
from topocompress.models import load_model
from topocompress.recipe import Recipe


def numbers(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split(","))


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--arch", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--mean", type=numbers)
    parser.add_argument("--std", type=numbers)
    parser.add_argument("--ignore", action="append", default=[])
    parser.add_argument("--round-to", default="auto")
    parser.add_argument("--criterion", default="persistence")
    parser.add_argument("--target-macs", type=float, default=0.5)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--distill", type=float, default=0.5)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--out", type=Path, required=True)
    return parser


def main() -> None:
    parser = options()
    given = parser.parse_args()
    loaded = load_model(given.checkpoint, arch=given.arch, mean=given.mean, std=given.std)
    data = load_data(given.data, preprocessing=loaded.preprocessing, samples=given.samples)
    if data.train is None:
        parser.error("there are no images to train on")
    recipe = Recipe(epochs=given.epochs, lr=given.lr, distill=given.distill)
    settings: dict[str, Any] = {"target_macs": given.target_macs, "criterion": given.criterion, **recipe.settings()}
    path = given.out / "recovery.json"
    found: dict[str, Any] = {"settings": settings}
    if path.exists() and (kept := json.loads(path.read_text()))["settings"] == settings:
        found = kept

    def save() -> None:
        given.out.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as temporary:
            temporary.write_text(
                json.dumps({**found, "environment": environment.describe()}, indent=1) + "\n", encoding="utf-8"
            )

    def told(done: int, total: int, message: str) -> None:
        if done % 50 == 0 or done == total:
            print(f"  {done}/{total} {message}", flush=True)

    if "pruned" not in found:
        result = compress(
            loaded,
            data,
            target_macs=given.target_macs,
            criterion=given.criterion,
            ignore=given.ignore,
            round_to=given.round_to if given.round_to == "auto" else int(given.round_to),
            finetune=recipe,
            out=given.out / "run",
            force=True,
            cache=given.out / "cache",
            resume=True,
            progress=lambda step, done, total: told(done, total, step) if "epoch" in step else None,
        )
        if result.report is None or result.report.after.accuracy is None:
            parser.error("accuracy cannot be measured: the images have no labels")
        report = result.report
        found |= {
            "original": report.before.accuracy,
            "pruned": report.after.accuracy,
            "macs": report.after.macs / report.before.macs,
            "removed": report.removed,
        }
        save()
    if "unpruned tuned" not in found:
        tuned = finetune(
            loaded.module,
            data.train,
            recipe,
            teacher=loaded.module,
            checkpoints=given.out / "cache" / "unpruned",
            resume=True,
            progress=told,
        )
        found["unpruned tuned"] = evaluate(tuned.model, batches(data.evaluation)).accuracy
        save()
    lost = 100 * (found["unpruned tuned"] - found["pruned"])
    print("| | accuracy | MACs left |\n|---|---:|---:|")
    print(f"| original | {found['original']:.2%} | 100 % |")
    print(f"| unpruned, fine-tuned | {found['unpruned tuned']:.2%} | 100 % |")
    print(f"| pruned, BatchNorm re-estimated | {found['removed']['accuracy_recalibrated']:.2%} | {found['macs']:.1%} |")
    print(f"| pruned, fine-tuned alike | {found['pruned']:.2%} | {found['macs']:.1%} |")
    print(f"\nLost against the unpruned network after the same fine-tuning: {lost:.2f} points.")


if __name__ == "__main__":
    main()
