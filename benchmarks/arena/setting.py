"""The networks of the study behind docs/research/criteria.md, where its files are, and its images, read once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset

from benchmarks.common import cifar_chains
from benchmarks.common.cifar_resnet import INNER_ONLY
from topocompress.data.loading import load_data
from topocompress.models.loading import LoadedModel, load_model
from topocompress.runtime.files import atomic_file
from topocompress.training.recipe import Precision
from topocompress.types import Augmentation
from topocompress.workflows.compare import GLOBAL

SEEDS = 3
RATIOS = (0.25, 0.375, 0.5)


@dataclass(frozen=True, kw_only=True)
class Network:
    """One network of the study.

    Attributes:
        title: What the tables call it.
        arch: Its factory.
        weights: Its checkpoint, in the folder of all.
        data: ``cifar`` or ``fashion``.
        mean: Of the normalisation.
        std: Likewise.
        ignore: Layers that stay whole.
        augmentation: What suits its training images.
    """

    title: str
    arch: str
    weights: str
    data: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    ignore: tuple[str, ...]
    augmentation: Augmentation


def _resnet(depth: int) -> Network:
    return Network(
        title=f"ResNet-{depth} on CIFAR-10 (JPEG), inner filters",
        arch=f"benchmarks.common.cifar_resnet:resnet{depth}",
        weights=f"resnet{depth}-cifar10.safetensors",
        data="cifar",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        ignore=INNER_ONLY,
        augmentation="natural",
    )


NETWORKS = {
    "resnet20": _resnet(20),
    "resnet56": _resnet(56),
    "fashion": Network(
        title="The CNN of `examples/fashion_mnist.py`, all its filters",
        arch="examples.fashion_mnist:FashionNet",
        weights="fashion.safetensors",
        data="fashion",
        mean=(0.286,),
        std=(0.353,),
        ignore=(),
        augmentation="shift",
    ),
}


def _chain(name: str, title: str, ignore: tuple[str, ...]) -> Network:
    return Network(
        title=title,
        arch=f"benchmarks.common.cifar_chains:{name}",
        weights=f"{name.lower()}-cifar10.safetensors",
        data="cifar",
        mean=cifar_chains.MEAN,
        std=cifar_chains.STD,
        ignore=ignore,
        augmentation="natural",
    )


CHAINS = {
    "vgg": _chain("Vgg", "A small VGG on CIFAR-10 (JPEG), all its filters", ()),
    "mobilenet": _chain("MobileNet", "A small MobileNet on CIFAR-10 (JPEG), inner filters", cifar_chains.INNER_ONLY),
}
"""Networks of other studies: ``benchmarks.common.cifar_chains`` trains them."""

SOURCES = {"cifar": "imagefolder", "fashion": "fashion-mnist"}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where things are, and how much is done.

    Attributes:
        weights: Folder of the checkpoints.
        data: ``cifar`` and ``fashion`` → folder.
        work: Folder for scores, prepared images and finished cells.
        device: Where networks run once something has been removed.
        samples: Calibration samples of one set.
        images: Held-out images.
        training: Training images at most; all if ``None``.
        recorded: Whether training steps are recorded as CUDA graphs.
        precision: Of fine-tuning; with ``bf16`` networks also lie channels last, as a CPU computes it fastest.
    """

    weights: Path
    data: dict[str, Path]
    work: Path
    device: str = "cpu"
    samples: int = 500
    images: int = 10_000
    training: int | None = None
    recorded: bool = False
    precision: Precision = "no"

    def images_file(self, data: str) -> Path:
        """Where the prepared images of a data set are kept."""
        return self.work / f"{data}-{self.samples}-{self.images}-{self.training or 'all'}.pt"

    def scores_file(self, network: str, name: str, seed: int) -> Path:
        """Where scores are kept; they do not depend on where a criterion cuts."""
        return self.work / "scores" / f"{network}-{name.removesuffix(GLOBAL)}-{self.samples}-{seed}.json.gz"


def opened(setting: Setting, network: Network) -> LoadedModel:
    """The network with its weights, on the CPU."""
    return load_model(setting.weights / network.weights, arch=network.arch, mean=network.mean, std=network.std)


def prepare_images(setting: Setting, network: Network, jobs: int) -> None:
    """Read every image once, as ``compare`` divides and prepares them, and keep them all in one file."""
    file = setting.images_file(network.data)
    if file.exists():
        return
    found = load_data(
        f"{SOURCES[network.data]}:{setting.data[network.data]}",
        preprocessing=opened(setting, network).preprocessing,
        samples=setting.samples * SEEDS,
        eval_samples=setting.images,
    )
    kept: dict[str, Any] = {}
    for use in ("calibration", "train", "evaluation"):
        samples: Any = getattr(found, use)
        if use == "train" and setting.training is not None:
            samples = Subset(samples, range(0, len(samples), max(1, len(samples) // setting.training)))
        loader = DataLoader(samples, batch_size=250, num_workers=jobs if len(samples) > 2000 else 0)
        # Copies: what comes from another process holds a file open.
        images, labels = zip(*((some.clone(), wanted.clone()) for some, wanted in loader), strict=True)
        kept[use] = (torch.cat(images), torch.cat(labels))
    with atomic_file(file) as temporary:
        torch.save(kept, temporary)
