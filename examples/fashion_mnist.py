"""Train a small CNN on Fashion-MNIST, then prune it with topocompress's command line.

    uv run python examples/fashion_mnist.py --out fashion-run

The data set is expected as four gzipped files in ``--source`` (Debian's package ``dataset-fashion-mnist`` puts them in
the default place); they are unpacked to where torchvision looks. Training is seeded and its checkpoint is kept, so a
second call starts at the pruning.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.datasets import FashionMNIST

MEAN, STD = 0.286, 0.353


class FashionNet(nn.Module):
    """Fashion-MNIST, (samples, 1, 28, 28) -> (samples, 10) logits: five convolutions, 288 filters."""

    input_shape = (1, 28, 28)

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 32, 32, 64, 64, 96)
        self.features = nn.Sequential()
        for index, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            stride = 2 if index in (2, 4) else 1
            conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
            self.features.append(nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU()))
        self.head = nn.Linear(widths[-1], 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (samples, 10)."""
        maps = self.features(images)
        logits: Tensor = self.head(maps.mean(dim=(2, 3)))
        return logits


def unpack(source: Path, root: Path) -> None:
    """Gunzip the files to ROOT/FashionMNIST/raw; a re-compressed archive would fail torchvision's checksum."""
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for archive in sorted(source.glob("*-ubyte.gz")):
        target = raw / archive.stem
        if not target.exists():
            partial = target.with_suffix(".partial")
            with gzip.open(archive) as packed, partial.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
            partial.replace(target)


def train(root: Path, epochs: int, seed: int) -> FashionNet:
    """Train with SGD and a one-cycle schedule; prints the loss of each epoch."""
    torch.manual_seed(seed)
    images = FashionMNIST(str(root), train=True, download=False).data[:, None].float().div(255).sub(MEAN).div(STD)
    labels = FashionMNIST(str(root), train=True, download=False).targets
    model = FashionNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = epochs * (len(images) // 128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=steps)
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for batch in torch.randperm(len(images))[: 128 * (len(images) // 128)].view(-1, 128):
            inputs = images[batch]
            flipped = torch.rand(len(inputs)) < 0.5
            inputs[flipped] = inputs[flipped].flip(3)
            loss = F.cross_entropy(model(inputs), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        print(f"epoch {epoch + 1}/{epochs}: loss {total / len(images):.3f}", flush=True)
    return model.eval()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--root", type=Path, default=Path("fashion-data"), help="where the unpacked data set goes")
    parser.add_argument("--checkpoint", type=Path, default=Path("fashion.safetensors"))
    parser.add_argument("--out", type=Path, default=Path("fashion-run"))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("prune", nargs="*", help="options for `topocompress prune`, after --", default=None)
    args = parser.parse_args()
    unpack(args.source, args.root)
    if not args.checkpoint.exists():
        save_file(train(args.root, args.epochs, args.seed).state_dict(), args.checkpoint)
    options = args.prune or ["--criterion", "persistence", "--target-macs", "0.25", "--allocation", "global"]
    command = ["prune", str(args.checkpoint.resolve()), "--arch", "fashion_mnist:FashionNet"]
    command += ["--data", f"fashion-mnist:{args.root.resolve()}", "--mean", str(MEAN), "--std", str(STD)]
    command += ["--eval-samples", "10000", "--out", str(args.out.resolve()), "--force", *options]
    # The factory is named as a module, so the command runs where this file is.
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent)}
    return subprocess.run([sys.executable, "-m", "topocompress", *command], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
