"""Prune a U-Net of segmentation-models-pytorch by mIoU, with Dice and cross-entropy as the loss of fine-tuning.

    pip install segmentation-models-pytorch
    python examples/segmentation_models.py --epochs 20 --out unet-run -- --ratio 0.3 --finetune 8

Nothing is downloaded: images are discs and squares on noise. With images of your own, ``pairs()`` returns a dataset of
(image (3, height, width) as the network takes it, mask (height, width) of class numbers) pairs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from topocompress.training.finetuning import finetune
from topocompress.training.recipe import Recipe

SIDE, CLASSES = 48, 3


def network() -> nn.Module:
    """An untrained U-Net: (samples, 3, height, width) images to (samples, classes, height, width) scores."""
    made = smp.Unet("resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=(32, 16, 16), classes=CLASSES)
    made.input_shape = (3, SIDE, SIDE)
    return made


class Shapes(Dataset[Any]):
    """Noise with a disc, class 1, and a square, class 2, of brightnesses of their own.

    Args:
        start: Seed of the first image.
        count: How many images.
    """

    def __init__(self, start: int, count: int) -> None:
        self.start, self.count = start, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        generator = torch.Generator().manual_seed(self.start + index)
        rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
        mask = torch.zeros(SIDE, SIDE, dtype=torch.long)
        for kind in (1, 2):
            top, left = torch.randint(8, SIDE - 8, (2,), generator=generator).tolist()
            radius = int(torch.randint(4, 12, (), generator=generator))
            down, across = rows - top, columns - left
            inside = down**2 + across**2 <= radius**2 if kind == 1 else torch.maximum(down.abs(), across.abs()) < radius
            mask[inside] = kind
        image = mask.float() / 2 + 0.3 * torch.randn(3, SIDE, SIDE, generator=generator)
        return image, mask


def pairs(count: int = 160) -> Shapes:
    """The data: calibration samples, those for training and those held out are taken from it."""
    return Shapes(100_000, count)


def miou(batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Mean over the classes of intersection over union, counted over all pixels of all images."""
    both, either = torch.zeros(CLASSES), torch.zeros(CLASSES)
    for scores, masks in batches:
        found, truth = F.one_hot(scores.argmax(1), CLASSES).bool(), F.one_hot(masks, CLASSES).bool()
        both += (found & truth).sum((0, 1, 2))
        either += (found | truth).sum((0, 1, 2))
    return float((both / either.clamp(min=1)).mean())


_dice = smp.losses.DiceLoss("multiclass")


def loss(scores: Tensor, masks: Tensor) -> Tensor:
    """Dice loss and cross-entropy, the mean over the samples."""
    return _dice(scores, masks) + F.cross_entropy(scores, masks)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("unet-run"))
    parser.add_argument("--epochs", type=int, default=20, help="of training")
    parser.add_argument("--images", type=int, default=300, help="to train with")
    parser.add_argument("prune", nargs="*", help="options for `topocompress prune`, after --")
    args = parser.parse_args()

    torch.manual_seed(0)
    recipe = Recipe(epochs=args.epochs, batch_size=16, lr=0.05, augment=False)
    trained = finetune(network(), Shapes(0, args.images), recipe, loss=loss, metric=miou)
    print(f"trained: mIoU {max(epoch.accuracy for epoch in trained.history):.3f}")
    weights = args.out.with_suffix(".safetensors")
    save_file(trained.model.state_dict(), weights)

    own = "segmentation_models:"
    command = ["prune", str(weights), "--arch", f"{own}network", "--data", f"{own}pairs", "--metric", f"{own}miou"]
    command += ["--loss", f"{own}loss", "--no-augment", "--out", str(args.out), "--force"]
    command += args.prune or ["--ratio", "0.3", "--criterion", "l1", "--finetune", "8"]
    # Factories, metric and loss are named in a module, so this directory must be importable.
    places = [str(Path(__file__).resolve().parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    return subprocess.run([sys.executable, "-m", "topocompress", *command], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
