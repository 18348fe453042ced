"""What fine-tuning gives back to the ResNet-20 for CIFAR-10, with labels, without any, and on images of another kind.

    python -m benchmarks.tuning CHECKPOINT CIFAR_FOLDER

CIFAR_FOLDER holds train/ and test/ with one folder per class. All ways start from the same smaller network: 37.5 %
of the inner filters gone by L1, BatchNorm re-estimated on 500 training images. The ``photographs`` are the crops of two
pictures that stand in where no data is given. Test labels serve to measure only. Rows are printed as they come, JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import Subset

from benchmarks.cifar_resnet import INNER_ONLY, resnet20
from topocompress import apply, plan, score
from topocompress.batchnorm import recalibrate_batchnorm
from topocompress.checkpoints import read_checkpoint
from topocompress.data import batches, load_data
from topocompress.finetuning import finetune
from topocompress.measurement import agreement, evaluate
from topocompress.recipe import Recipe
from topocompress.types import Preprocessing

_SHAPE = Preprocessing(input_shape=(3, 32, 32))
_RATIO = 0.375


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("folder")
    parser.add_argument("--images", type=int, default=4000, help="training images")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    original = resnet20().eval()
    state: Any = read_checkpoint(given.checkpoint)
    original.load_state_dict(state)
    found = load_data(f"imagefolder:{given.folder}", preprocessing=_SHAPE, samples=500, eval_samples=2000)
    photographs = load_data(None, preprocessing=_SHAPE, samples=500)
    if found.train is None or photographs.train is None:
        parser.error("the folder holds too few images")
    whole = evaluate(original, batches(found.evaluation), labelled=True)
    example = torch.zeros(1, 3, 32, 32)
    scores = score(original, None, criterion="l1", example=example)
    recipe = plan(original, scores, example=example, ratio=_RATIO, ignore=INNER_ONLY)
    cut = recalibrate_batchnorm(apply(original, recipe, example=example), batches(found.calibration))

    def row(name: str, model: torch.nn.Module, **more: Any) -> None:
        after = evaluate(model, batches(found.evaluation), labelled=True)
        numbers = {"accuracy": after.accuracy, "agreement": agreement(whole, after)}
        print(json.dumps({"way": name, **numbers, **more}), flush=True)

    row("original", original)
    row("removed", cut)
    base = Recipe(epochs=given.epochs, lr=0.02)
    ways = {
        "labels": (base, found.train, False),
        "labels and original": (replace(base, distill=0.5), found.train, False),
        "original": (replace(base, distill=1.0), found.train, False),
        "original, on photographs": (replace(base, distill=1.0), photographs.train, True),
        "original, on photographs, their statistics": (replace(base, distill=1.0), photographs.train, False),
    }
    for seed in range(given.seeds):
        for name, (settings, samples, keep) in ways.items():
            order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed))  # type: ignore[arg-type]
            part = Subset(samples, order[: given.images].tolist())
            started = time.perf_counter()
            tuned = finetune(cut, part, settings, teacher=original, keep_statistics=keep, seed=seed)
            seconds = round(time.perf_counter() - started, 1)
            history = [[epoch.validation_loss, epoch.accuracy] for epoch in tuned.history]
            row(name, tuned.model, seed=seed, best=tuned.best_epoch, history=history, seconds=seconds)


if __name__ == "__main__":
    main()
