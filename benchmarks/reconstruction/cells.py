"""One network, one criterion, one ratio and one set of images: what is left, step by step."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
import torch_pruning as tp
from torch import nn

from benchmarks.arena.setting import Setting
from benchmarks.arena.study import Subject
from benchmarks.common.results import Results
from topocompress.data.loading import batches
from topocompress.network.batchnorm import recalibrate_batchnorm
from topocompress.planning.rules import Limits
from topocompress.surgery.removal import apply
from topocompress.training.recipe import Recipe
from topocompress.workflows.compare import GLOBAL, contestant
from topocompress.workflows.options import Recovery
from topocompress.workflows.repair import repair

SUITED = {"persistence": "persistence+rebuilt=true"}
"""How a criterion is scored where reconstruction follows, if not as it is called."""
IMPORTANCES: Mapping[str, Callable[[], Any]] = {
    "GroupMagnitude": lambda: tp.importance.GroupMagnitudeImportance(p=2),
    "GroupTaylor": tp.importance.GroupTaylorImportance,
    "GroupHessian": tp.importance.GroupHessianImportance,
}


def criteria(
    setting: Setting,
    network: str,
    names: Sequence[str],
    ratios: Sequence[float],
    sets: int,
    results: Results,
    *,
    epochs: int,
    blocks: int,
) -> None:
    """Every cell of some criteria that is not there yet."""
    subject = Subject(network, setting)
    results.once(f"original {network}", subject.original)
    for seed, name, ratio in itertools.product(range(sets), names, ratios):
        key = f"{network} {name} {seed} {ratio:g}"
        key += (f" tuned:{epochs}" if epochs else "") + (f" blocks:{blocks}" if blocks else "")

        def measured(name: str = name, ratio: float = ratio, seed: int = seed) -> dict[str, Any]:
            return cell(subject, name, ratio, seed, epochs, blocks)

        print(key, results.once(key, measured), flush=True)


def cell(subject: Subject, name: str, ratio: float, seed: int, epochs: int, blocks: int) -> dict[str, Any]:
    """Accuracies in 0..1 with BatchNorm re-estimated alone, reconstructed, blocks distilled, fine-tuned after that."""
    bare_name = name.removesuffix(GLOBAL)
    scores = subject.scores(SUITED.get(bare_name, bare_name), seed)
    plan = contestant(name, scores, subject.groups, subject.costs, ratio=ratio, limits=Limits(round_to=1))
    bare = apply(subject.loaded.module, plan, example=subject.example)
    job = replace(subject._job(seed), recovery=Recovery(distill_blocks=blocks))
    repaired = repair(job, bare, plan)
    found: dict[str, Any] = {"macs": plan.macs_after / plan.macs_before}
    if epochs:
        tuned, _ = subject._tuned(repaired.model, Recipe(epochs=epochs, precision=subject.setting.precision), seed)
        return found | {"accuracy_tuned": subject._accuracy(tuned.model), "precision": subject.setting.precision}
    if blocks:
        return found | {"accuracy_distilled": subject._accuracy(repaired.model)}
    found["accuracy_repaired"] = subject._accuracy(repaired.model)
    if seed == 0:  # the first set shows well enough how much there is to repair
        found["accuracy_recalibrated"] = subject._accuracy(repaired.settled)
    return found


def pipeline(setting: Setting, network: str, ratios: Sequence[float], sets: int, results: Results) -> None:
    """The same widths by Torch-Pruning: its importances, with labels if they ask for them; BatchNorm re-estimated."""
    subject = Subject(network, setting)
    for seed, name, ratio in itertools.product(range(sets), IMPORTANCES, ratios):

        def measured(name: str = name, ratio: float = ratio, seed: int = seed) -> dict[str, Any]:
            return theirs(subject, name, ratio, seed)

        key = f"pipeline {network} {name} {seed} {ratio:g}"
        print(key, results.once(key, measured), flush=True)


def theirs(subject: Subject, name: str, ratio: float, seed: int) -> dict[str, Any]:
    """One cell of Torch-Pruning."""
    model: Any = copy.deepcopy(subject.loaded.module).eval()
    calibration = list(batches(subject.calibration(seed)))
    importance = IMPORTANCES[name]()
    roots = {group.root for group in subject.groups if not group.protected}
    ignored = [
        module
        for layer, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and layer not in roots
    ]
    pruner = tp.pruner.BasePruner(
        model, subject.example, importance=importance, pruning_ratio=ratio, ignored_layers=ignored
    )
    _accumulate(model, importance, calibration)
    pruner.step()
    settled = recalibrate_batchnorm(model.eval(), calibration)
    widths = {layer: model.get_submodule(layer).out_channels for layer in roots}
    return {"widths": widths, "accuracy_recalibrated": subject._accuracy(settled)}


def _accumulate(model: nn.Module, importance: Any, calibration: Sequence[Any]) -> None:
    """Gradients of the labelled loss: summed, or sample by sample where the importance looks at each."""
    each = hasattr(importance, "accumulate_grad")
    if each:
        importance.zero_grad()
    for images, labels in calibration:
        for some, wanted in zip(images.split(1), labels.split(1), strict=True) if each else [(images, labels)]:
            if each:
                model.zero_grad()
            F.cross_entropy(model(some), wanted, reduction="sum").backward()
            if each:
                importance.accumulate_grad(model)
