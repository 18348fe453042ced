"""Train the digits network that ships with topocompress; the result is topocompress/models/assets/digits.safetensors.

    python examples/train_digits.py [FILE.safetensors]

It sees no sample that the data source ``digits`` keeps for evaluation. About a minute on two cores.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from topocompress.data import Data, batches, load_data
from topocompress.models.digits import CHECKPOINT, DigitsNet
from topocompress.models.preprocessing import default_preprocessing
from topocompress.types import Architecture

EPOCHS, BATCH, RATE, SEED = 30, 64, 0.1, 0


@torch.no_grad()
def accuracy(model: nn.Module, data: Data) -> float:
    model.eval()
    hits = [model(images).argmax(1) == labels for images, labels in batches(data.evaluation, 256)]
    return torch.cat(hits).float().mean().item()


def main(target: Path) -> None:
    torch.manual_seed(SEED)
    model = DigitsNet()
    preprocessing = default_preprocessing(Architecture(kind="builtin", name="digits"), model)
    # All but two of the samples that are not for evaluation are left for training.
    data = load_data("digits", preprocessing=preprocessing, samples=2)
    loader = batches(data.train, BATCH, shuffle=True, seed=SEED)
    optimiser = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=EPOCHS * len(loader))
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    started = time.perf_counter()
    for epoch in range(1, EPOCHS + 1):
        model.train()
        total = 0.0
        for images, labels in loader:
            loss = loss_of(model(images), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item() * len(labels)
        print(f"epoch {epoch:2d}: loss {total / len(data.train):.4f}")
    save_file(model.state_dict(), target)
    target.chmod(0o644)  # safetensors writes for the owner alone, and this file is packaged
    seconds = time.perf_counter() - started
    print(f"{accuracy(model, data):.2%} of {len(data.evaluation)} held-out digits right, trained in {seconds:.0f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else CHECKPOINT)
