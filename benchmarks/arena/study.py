"""The study behind docs/research/criteria.md: a network opened for many cells of the arena, and one cell of it.

A cell is one criterion at one ratio with one set of calibration samples: accuracy right after removal, after BatchNorm
re-estimation and, where asked for, after fine-tuning. It is what :func:`topocompress.compare` does, with the
pruned network on a GPU if there is one, and the scores kept in files, so that many processes can share the cells.
"""

from __future__ import annotations

import contextlib
import functools
import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.arena.recorded import recorded_steps
from benchmarks.arena.scores import read_scores, scored_as, write_scores
from benchmarks.arena.setting import CHAINS, NETWORKS, SOURCES, Setting, opened
from topocompress.criteria.registry import create
from topocompress.data.loading import Data, batches
from topocompress.deploy.measurement import evaluate
from topocompress.errors import TopocompressError
from topocompress.planning.rules import Limits
from topocompress.runtime.progress import silent
from topocompress.runtime.resources import Resources
from topocompress.surgery.removal import apply
from topocompress.surgery.trial import prunable_groups
from topocompress.training.finetuning import FinetuneResult, finetune
from topocompress.training.recipe import Recipe
from topocompress.types import ChannelGroup, LayerCost, Scores
from topocompress.workflows.compare import GLOBAL, contestant
from topocompress.workflows.job import Job
from topocompress.workflows.repair import settle
from topocompress.workflows.single_steps import layer_costs, score_groups

EVALUATED_AT_ONCE = 500
_ALONE = Resources(workers=1, memory=2 << 30)


class Subject:
    """A network opened for many cells.

    Attributes:
        loaded: It, on the CPU, where it is scored and cut.
        groups: Its channel groups.
        costs: Its multiply-accumulates per layer.
    """

    def __init__(self, name: str, setting: Setting) -> None:
        self.name, self.setting, self.network = name, setting, {**NETWORKS, **CHAINS}[name]
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

    def cell(
        self, name: str, ratio: float, seed: int, epochs: int, plain: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """One cell of the arena; accuracies in 0..1, multiply-accumulates as the share that is left.

        Args:
            name: Of the criterion, as in :func:`topocompress.workflows.compare.compare`.
            ratio: Share of every group that goes.
            seed: Which set of calibration samples.
            epochs: Of fine-tuning.
            plain: The same cell without fine-tuning, where it has been measured; its accuracies are taken over.
        """
        scores, limits = self.scores(scored_as(name, epochs), seed), Limits(round_to=1)
        plan = contestant(name, scores, self.groups, self.costs, ratio=ratio, limits=limits)
        bare = apply(self.loaded.module, plan, example=self.example).to(self.device)
        cut, _ = settle(self._job(seed), bare, plan)
        found: dict[str, Any] = {
            "macs": plan.macs_after / plan.macs_before,
            "removed": plain["removed"] if plain else self._accuracy(bare),
            "settled": plain["settled"] if plain else self._accuracy(cut),
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
