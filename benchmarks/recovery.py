"""What pruning cost in a finished run, against the unpruned network after the very same fine-tuning.

    topocompress prune CHECKPOINT --arch ARCH --data DATA --target-macs 0.5 --finetune 4 --distill --out RUN
    python -m benchmarks.recovery RUN CHECKPOINT --arch ARCH --data DATA

Takes recipe, seed and number of samples from RUN/report.json, fine-tunes the unpruned network by them on the same
images, and measures both on the same held-out ones. Epochs are kept in --out, so a benchmark that was stopped goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from topocompress.data import batches, load_data
from topocompress.files import atomic_file
from topocompress.finetuning import finetune
from topocompress.measurement import evaluate
from topocompress.models import load_model
from topocompress.recipe import Recipe


def numbers(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split(","))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("checkpoint")
    parser.add_argument("--arch", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--mean", type=numbers)
    parser.add_argument("--std", type=numbers)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    report = json.loads((given.run / "report.json").read_text())
    settings, counts, seed = report["finetune"], report["data"]["samples"], report["environment"]["seed"]
    recipe = Recipe(**{field.name: settings[field.name] for field in dataclasses.fields(Recipe)})
    loaded = load_model(given.checkpoint, arch=given.arch, mean=given.mean, std=given.std)
    data = load_data(
        given.data,
        preprocessing=loaded.preprocessing,
        samples=counts["calibration"],
        eval_samples=counts["evaluation"],
        seed=seed,
    )
    if data.train is None or data.fingerprint != report["data"]["fingerprint"]:
        parser.error(f"these are not the images of {given.run}")

    def told(done: int, total: int, message: str) -> None:
        if done % 50 == 0 or done == total:
            print(f"  {done}/{total} {message}", flush=True)

    tuned = finetune(
        loaded.module,
        data.train,
        recipe,
        teacher=loaded.module if recipe.distill else None,
        checkpoints=given.out,
        resume=True,
        identity=data.fingerprint,
        seed=seed,
        progress=told,
    )
    whole = evaluate(tuned.model, batches(data.evaluation)).accuracy or 0.0
    before, after = report["before"], report["after"]
    share = after["macs"] / before["macs"]
    rows = [
        ("original", before["accuracy"], 1.0),
        ("unpruned, fine-tuned", whole, 1.0),
        ("pruned, BatchNorm re-estimated", report["removed"]["accuracy_recalibrated"], share),
        ("pruned, fine-tuned alike", after["accuracy"], share),
    ]
    lines = ["| | accuracy | MACs left |", "|---|---:|---:|"]
    lines += [f"| {what} | {accuracy:.2%} | {macs:.1%} |" for what, accuracy, macs in rows]
    lost = 100 * (whole - after["accuracy"])
    lines += ["", f"Lost against the unpruned network after the same fine-tuning: {lost:.2f} points."]
    print("\n".join(lines))
    with atomic_file(given.out / "recovery.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
