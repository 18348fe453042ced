"""The command of ``benchmarks.recovery``."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from benchmarks import recovery
from benchmarks.common.commands import parser_of
from topocompress.data.loading import batches, load_data
from topocompress.deploy.measurement import evaluate
from topocompress.models.loading import load_model
from topocompress.runtime.files import atomic_file
from topocompress.training.checkpoints import FILE
from topocompress.training.finetuning import finetune
from topocompress.training.recipe import Recipe


def numbers(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split(","))


def last_epoch(file: Path) -> dict[str, Tensor]:
    """Weights after the last epoch that ran, from what fine-tuning has kept."""
    tensors = load_file(file)
    return {name.removeprefix("model/"): tensor for name, tensor in tensors.items() if name.startswith("model/")}


def main() -> None:
    parser = parser_of(recovery)
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
    last = copy.deepcopy(tuned.model)
    last.load_state_dict(last_epoch(given.out / FILE))
    kept, final = (evaluate(model, batches(data.evaluation)).accuracy or 0.0 for model in (tuned.model, last))
    before, after = report["before"], report["after"]
    share = after["macs"] / before["macs"]
    rows = [
        ("original", before["accuracy"], 1.0),
        (f"unpruned, fine-tuned, kept epoch ({tuned.best_epoch})", kept, 1.0),
        (f"unpruned, fine-tuned, last epoch ({tuned.history[-1].epoch})", final, 1.0),
        ("pruned, BatchNorm re-estimated", report["removed"]["accuracy_recalibrated"], share),
        ("pruned, fine-tuned alike", after["accuracy"], share),
    ]
    lines = ["| | accuracy | MACs left |", "|---|---:|---:|"]
    lines += [f"| {what} | {accuracy:.2%} | {macs:.1%} |" for what, accuracy, macs in rows]
    lost = 100 * (max(before["accuracy"], kept, final) - after["accuracy"])
    lines += ["", f"Lost against the best of the unpruned network: {lost:.2f} points."]
    print("\n".join(lines))
    with atomic_file(given.out / "recovery.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
