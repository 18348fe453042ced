"""Networks and images that several benchmarks share."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn

from topocompress.data import load_data
from topocompress.types import Preprocessing

Batches = list[tuple[Tensor, Tensor]]
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_ESTIMATED_ON = 128


def images_at_224(source: str | None, samples: int, *, batch: int = 32) -> Batches:
    """Calibration images at 224 × 224 in memory; photographs that ship with scikit-learn without a source."""
    found = load_data(source, preprocessing=Preprocessing(input_shape=(3, 224, 224), **IMAGENET), samples=samples)
    images = torch.stack([found.calibration[index][0] for index in range(samples)])
    return [(part, torch.zeros(len(part), dtype=torch.long)) for part in images.split(batch)]


def untrained(name: str, batches: Batches, *, seed: int = 0) -> nn.Module:
    """A torchvision network with seeded weights whose BatchNorm statistics fit the images, so that maps carry them."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model: nn.Module = torchvision.models.get_model(name, weights=None)
        model.train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # type: ignore[assignment]  # a plain average
        images = torch.cat([part for part, _ in batches])[:_ESTIMATED_ON]
        for part in images.split(32):
            model(part)
    return model.eval()


def convolutions(model: nn.Module) -> list[str]:
    """Names of all convolutions."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]


def inner_convolutions(model: nn.Module) -> list[str]:
    """The first convolution of each basic block: its filters are no part of a residual stream."""
    return [name for name in convolutions(model) if name.startswith("layer") and name.endswith(".conv1")]
