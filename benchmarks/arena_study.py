"""The study behind docs/criteria.md: its networks, what competes on them, and one cell of the arena.

A cell is one criterion at one ratio with one set of calibration samples: accuracy right after removal, after BatchNorm
re-estimation and, where asked for, after fine-tuning. It is what :func:`topocompress.arena.compare` does, with the
pruned network on a GPU if there is one, and the scores kept in files, so that many processes can share the cells.
"""

from __future__ import annotations

import contextlib
import functools
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from benchmarks.arena_scores import read_scores, scored_as, write_scores
from benchmarks.cifar_resnet import INNER_ONLY
from benchmarks.recorded import recorded_steps
from topocompress.arena import GLOBAL, contestant
from topocompress.criteria.registry import create
from topocompress.data import Data, batches, load_data
from topocompress.errors import TopocompressError
from topocompress.files import atomic_file
from topocompress.finetuning import FinetuneResult, finetune
from topocompress.measurement import evaluate
from topocompress.models import LoadedModel, load_model
from topocompress.probing import prunable_groups
from topocompress.recipe import Augmentation, Precision, Recipe
from topocompress.resources import Resources
from topocompress.rules import Limits
from topocompress.scoring import silent
from topocompress.steps import Job
from topocompress.surgery import apply
from topocompress.types import ChannelGroup, LayerCost, Scores
from topocompress.verbs import layer_costs, score_groups

SEEDS = 3
RATIOS = (0.25, 0.375, 0.5)
EVALUATED_AT_ONCE = 500
_ALONE = Resources(workers=1, memory=2 << 30)


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
        arch=f"benchmarks.cifar_resnet:resnet{depth}",
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


class Subject:
    """A network opened for many cells.

    Attributes:
        loaded: It, on the CPU, where it is scored and cut.
        groups: Its channel groups.
        costs: Its multiply-accumulates per layer.
    """

    def __init__(self, name: str, setting: Setting) -> None:
        self.name, self.setting, self.network = name, setting, NETWORKS[name]
        self.loaded = opened(setting, self.network)
        # Shared by all processes: the file is mapped, not read.
        self.images: dict[str, tuple[Tensor, Tensor]] = torch.load(
            setting.images_file(self.network.data), mmap=True, weights_only=True
        )
        self.example = self.images["calibration"][0][:1].clone()
        self.costs: dict[str, LayerCost] = layer_costs(self.loaded.module, self.example)
        self.device = torch.device(setting.device)

    @functools.cached_property
    def groups(self) -> tuple[ChannelGroup, ...]:
        """Found once it is needed, which takes seconds."""
        return prunable_groups(self.loaded.module, self.example, ignore=self.network.ignore)

    @functools.cached_property
    def whole(self) -> nn.Module:
        """The network on the device."""
        return opened(self.setting, self.network).module.to(self.device)

    @functools.cached_property
    def evaluation(self) -> list[tuple[Tensor, Tensor]]:
        """The held-out images in batches, on the device; labels on the CPU."""
        images, labels = self.images["evaluation"]
        parts = zip(images.split(EVALUATED_AT_ONCE), labels.split(EVALUATED_AT_ONCE), strict=True)
        return [(some.to(self.device), wanted) for some, wanted in parts]

    def calibration(self, seed: int) -> TensorDataset:
        """One set of calibration samples."""
        images, labels = self.images["calibration"]
        part = slice(seed * self.setting.samples, (seed + 1) * self.setting.samples)
        return TensorDataset(images[part], labels[part])

    def scores(self, name: str, seed: int) -> Scores:
        """A criterion's scores, from their file if they are there; see :func:`scored_as` for the name."""
        file = self.setting.scores_file(self.name, name, seed)
        if file.exists():
            return read_scores(file)
        criterion = create(name.removesuffix(GLOBAL), **({"seed": seed} if name.startswith("random") else {}))
        found = score_groups(
            self.loaded.module,
            self.groups,
            criterion,
            batches(self.calibration(seed)),
            example=self.example,
            resources=_ALONE,
        )
        write_scores(file, found)
        return found

    def original(self) -> dict[str, Any]:
        """Accuracy and multiply-accumulates of the whole network."""
        return {"accuracy": self._accuracy(self.whole), "macs": sum(cost.macs for cost in self.costs.values())}

    def cell(self, name: str, ratio: float, seed: int, epochs: int) -> dict[str, Any]:
        """One cell of the arena; accuracies in 0..1, multiply-accumulates as the share that is left."""
        scores, limits = self.scores(scored_as(name, epochs), seed), Limits(round_to=1)
        plan = contestant(name, scores, self.groups, self.costs, ratio=ratio, limits=limits)
        bare = apply(self.loaded.module, plan, example=self.example).to(self.device)
        cut = self._job(seed).recalibrated(bare, plan).model
        found: dict[str, Any] = {
            "macs": plan.macs_after / plan.macs_before,
            "removed": self._accuracy(bare),
            "settled": self._accuracy(cut),
        }
        if epochs:
            tuned, recorded = self._tuned(cut, Recipe(epochs=epochs, precision=self.setting.precision), seed)
            found |= {"tuned": self._accuracy(tuned.model), "best_epoch": tuned.best_epoch, "recorded": recorded}
            found["seconds"] = round(sum(epoch.seconds for epoch in tuned.history), 2)
            found |= {"device": self.setting.device, "precision": self.setting.precision}
        return found

    def _job(self, seed: int) -> Job:
        """What the product knows when it settles a pruned network's statistics."""
        data = Data(
            calibration=self.calibration(seed),
            train=None,
            evaluation=self.calibration(seed),
            labelled=True,
            classes=(),
            source=SOURCES[self.network.data],
            note="",
            skipped=(),
            fingerprint="",
        )
        return Job(loaded=replace(self.loaded, module=self.whole), data=data, seed=seed, progress=silent)

    def _tuned(self, model: nn.Module, recipe: Recipe, seed: int) -> tuple[FinetuneResult, bool]:
        """Fine-tune on the training images; with recorded steps where that is asked for and works."""
        images: Any = TensorDataset(*self.images["train"])
        images.augmentation = self.network.augmentation
        if self.setting.precision == "bf16":
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.setting.recorded:
            batch = torch.zeros(recipe.batch_size, *self.example.shape[1:], device=self.device)
            try:
                with recorded_steps(batch):
                    return finetune(model, images, recipe, seed=seed), True
            except (RuntimeError, TopocompressError):  # torch does not say what it cannot record
                print(f"not recorded\n{traceback.format_exc()}", flush=True)
        return finetune(model, images, recipe, seed=seed), False

    def recording(self) -> dict[str, Any]:
        """What training by recorded steps does differently: losses and seconds of an epoch, each way."""
        found = {}
        images, labels = (part[:5000] for part in self.images["train"])
        batch = torch.zeros(128, *images.shape[1:], device=self.device)
        for way in ("played", "stepped", "played"):  # the first warms up
            with recorded_steps(batch) if way == "played" else contextlib.nullcontext():
                model = opened(self.setting, self.network).module.to(self.device)
                last = finetune(model, TensorDataset(images, labels), Recipe(epochs=1)).history[-1]
            found[way] = {"loss": last.loss, "validation": last.validation_loss, "seconds": last.seconds}
        return found

    def scored_there(self, name: str) -> dict[str, float]:
        """Rank correlation of scores made on the device with those made on the CPU, and seconds."""
        expected = self.scores(name, 0)
        started = time.perf_counter()
        found = score_groups(
            opened(self.setting, self.network).module.to(self.device),
            self.groups,
            create(name),
            batches(self.calibration(0)),
            example=self.example.to(self.device),
            resources=_ALONE,
        )
        seconds = time.perf_counter() - started
        ranks = [spearmanr(each.values, expected.layers[layer].values) for layer, each in found.layers.items()]
        return {"rank": float(np.mean([each.statistic for each in ranks])), "seconds": round(seconds, 2)}

    def _accuracy(self, model: nn.Module) -> float:
        found = evaluate(model, self.evaluation).accuracy
        if found is None:
            raise ValueError("the images have no labels")
        return round(found, 5)
