"""What one process, or several that were launched together, make of the same training: ``python together.py DIR``."""

import json
import os
import sys
import weakref
from pathlib import Path

import torch
from torch import distributed, nn
from torch.utils.data import TensorDataset

from tests.helpers.trained import training_part, untrained
from topocompress.errors import DataError
from topocompress.training import processes
from topocompress.training.accelerator import _disconnect, team
from topocompress.training.finetuning import finetune
from topocompress.training.recipe import Recipe


class Plain(nn.Module):
    """Neither BatchNorm nor dropout, and weights that the output does not depend on."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.used = nn.Sequential(nn.Conv2d(1, 6, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(54, 10))
        self.unused = nn.Linear(3, 3)

    def forward(self, images):
        return self.used(images)


class StopError(Exception):
    pass


def stop(done, *_):
    if done == 12:
        raise StopError


def curve(result):
    return {
        "history": [[epoch.loss, epoch.validation_loss, epoch.accuracy] for epoch in result.history],
        "best": result.best_epoch,
        "sum": sum(float(each.detach().double().abs().sum()) for each in result.model.used.parameters())
        if hasattr(result.model, "used")
        else [each.detach().double().sum().item() for each in result.model.parameters()],
        "processes": result.processes,
        "resumed": result.resumed,
    }


def fail():
    raise DataError("no", hint="go")


def found(folder):
    """All results, as plain data."""
    data = TensorDataset(*(tensor[:303] for tensor in training_part().tensors))
    data.augmentation = "shift"
    # 273 are trained on: batches of 32 and one of 17; then batches of 34 and one of a single sample, joined to another
    short, odd = Recipe(epochs=2, lr=0.05, batch_size=32), Recipe(epochs=2, lr=0.05, batch_size=34, accumulate=3)
    results = {"plain": curve(finetune(Plain(), data, short)), "accumulated": curve(finetune(Plain(), data, odd))}
    with team():
        distilled = Recipe(epochs=2, lr=0.05, batch_size=32, distill=1.0, patience=1)
        results["distilled"] = curve(finetune(Plain(), data, distilled, teacher=untrained()))
        results["normed"] = curve(finetune(untrained(), data, short))
        try:
            finetune(untrained(), data, short, checkpoints=folder / "kept", progress=stop)
        except StopError:
            again = finetune(untrained(), data, short, checkpoints=folder / "kept", resume=True)
            results["resumed"] = curve(again)
        results["from_main"] = processes.from_main(os.getpid) == os.getpid()
        results["gathered"] = processes.gathered(processes.rank())
        try:
            processes.from_main(fail)
        except DataError as error:
            results["error"] = [str(error), processes.is_echo(error)]
        if processes.part():
            results["alone"] = processes.from_main(lambda: 5)
    return results


def is_closed():
    """Whether nothing holds the connection once it has been given up, so that its threads have ended."""
    held = weakref.ref(distributed.group.WORLD) if distributed.is_initialized() else lambda: None
    _disconnect()
    return held() is None


if __name__ == "__main__":
    out = Path(sys.argv[1])
    results = found(out)
    results["closed"] = is_closed()
    (out / f"{processes.rank()}.json").write_text(json.dumps(results), encoding="utf-8")
