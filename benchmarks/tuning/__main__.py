"""The command of ``benchmarks.tuning``."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import Dataset, TensorDataset

from benchmarks import tuning
from benchmarks.common.cifar_resnet import INNER_ONLY, resnet20
from benchmarks.common.commands import parser_of
from topocompress import apply, plan, score
from topocompress.data.loading import batches, load_data
from topocompress.deploy.measurement import agreement, evaluate
from topocompress.models.checkpoints import read_checkpoint
from topocompress.network.batchnorm import recalibrate_batchnorm
from topocompress.network.inference import sample_count
from topocompress.training.finetuning import finetune
from topocompress.training.recipe import Recipe
from topocompress.types import Preprocessing

_SHAPE = Preprocessing(input_shape=(3, 32, 32))
_RATIO = 0.375


def main() -> None:
    parser = parser_of(tuning)
    parser.add_argument("checkpoint")
    parser.add_argument("folder")
    parser.add_argument("--images", type=int, default=4000, help="training images")
    parser.add_argument("--crops", type=int, default=1500, help="crops of photographs")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    original = resnet20().eval()
    original.load_state_dict(dict(read_checkpoint(given.checkpoint).candidates[0].state))
    found = load_data(f"imagefolder:{given.folder}", preprocessing=_SHAPE, samples=500, eval_samples=2000)
    photographs = load_data(None, preprocessing=_SHAPE, samples=500)
    if found.train is None or photographs.train is None:
        parser.error("the folder holds too few images")
    held_out = list(batches(found.evaluation, 500))
    whole = evaluate(original, held_out, labelled=True)
    example = torch.zeros(1, 3, 32, 32)
    scores = score(original, None, criterion="l1", example=example)
    chosen = plan(original, scores, example=example, ratio=_RATIO, ignore=INNER_ONLY)
    bare = apply(original, chosen, example=example)
    settled = recalibrate_batchnorm(bare, batches(found.calibration))

    def row(name: str, model: torch.nn.Module, **more: Any) -> None:
        after = evaluate(model, held_out, labelled=True)
        print(
            json.dumps({"way": name, "accuracy": after.accuracy, "agreement": agreement(whole, after), **more}),
            flush=True,
        )

    row("original", original)
    row("removed", bare)
    row("removed, BatchNorm re-estimated", settled)
    base = Recipe(epochs=given.epochs, lr=0.02)
    learning = replace(base, distill=1.0)
    images, crops = _held(found.train, given.images), _held(photographs.train, given.crops)
    ways = {
        "labels": (settled, base, images),
        "labels and original": (settled, replace(base, distill=0.5), images),
        "original": (settled, learning, images),
        "original, on photographs": (bare, learning, crops),
        "original, on photographs, a quarter of the rate": (bare, replace(learning, lr=base.lr / 4), crops),
    }
    for seed in range(given.seeds):
        for name, (start, settings, samples) in ways.items():
            started = time.perf_counter()
            tuned = finetune(start, samples, settings, teacher=original, seed=seed)
            seconds = round(time.perf_counter() - started, 1)
            history = [[epoch.validation_loss, epoch.accuracy] for epoch in tuned.history]
            row(name, tuned.model, seed=seed, best=tuned.best_epoch, history=history, seconds=seconds)


def _held(samples: Dataset[Any], count: int) -> TensorDataset:
    """Some samples, drawn at random and prepared once; mirrored and shifted like the set they are from."""
    order = torch.randperm(sample_count(samples), generator=torch.Generator().manual_seed(0))[:count].tolist()
    images, labels = zip(*(samples[index] for index in order), strict=True)
    held = TensorDataset(torch.stack(images), torch.tensor(labels))
    held.augmentation = "natural"  # type: ignore[attr-defined]
    return held


if __name__ == "__main__":
    main()
