"""Model + criterion + data → :class:`~topocompress.types.Scores`."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

import topocompress
from topocompress.criteria.base import (
    KINDS,
    CloudCriterion,
    Criterion,
    GradientCriterion,
    MapCriterion,
    NormCriterion,
    WeightCriterion,
    checked,
)
from topocompress.errors import CriterionError, DataError, ModelError
from topocompress.models.loading import fingerprint
from topocompress.network.capture import EXACT, Batches, Maps
from topocompress.network.hook_points import following_norms
from topocompress.network.inference import device_of
from topocompress.network.layers import LAYERS, filters_of
from topocompress.runtime.progress import Progress, silent
from topocompress.runtime.resources import ANY, Resources
from topocompress.scoring.clouds import Scored, score_clouds
from topocompress.scoring.gradients import score_gradients
from topocompress.scoring.maps import score_maps
from topocompress.scoring.rebuilt import score_rebuilt
from topocompress.scoring.store import ScoreStore
from topocompress.scoring.units import Units
from topocompress.types import LayerScores, Scores


def score_layers(
    model: nn.Module,
    layers: Iterable[str],
    criterion: Criterion,
    batches: Batches | None = None,
    *,
    example: Tensor | None = None,
    groups: Sequence[Units] | None = None,
    resources: Resources = ANY,
    maps: Maps | None = None,
    store: ScoreStore | None = None,
    progress: Progress = silent,
) -> Scores:
    """Score every filter of some layers.

    Args:
        model: The network; weights, mode, hooks and RNG are left as they were.
        layers: Names of convolutions or linear layers.
        criterion: What to score with.
        batches: Calibration samples as batches of (images (B, C, H, W), labels (B,)), re-iterable; may be ``None``
            for a criterion that reads weights alone.
        example: (1, C, H, W) input, by which a :class:`NormCriterion` finds the norms; by default a calibration sample.
        groups: Which filters can only go together: layer → filters of each unit. A :class:`GradientCriterion` judges
            those together; by default each filter by itself.
        resources: Memory and processes; the scores do not depend on them.
        maps: How maps become the points of clouds; by default as the criterion has it.
        store: Where finished layers are kept and looked up; nowhere if ``None``.
        progress: Called as work proceeds.

    Returns:
        One :class:`LayerScores` per layer, in the order in which the layers run.

    Raises:
        DataError: No batches, fewer than two samples, or NaN among them.
        ModelError: A layer is missing or gives NaN.
        CriterionError: The criterion returned something that is not one finite number per filter, or has nothing to
            read in this network.
    """
    maps = read_maps(criterion, maps)
    modules = dict(model.named_modules())
    names = list(layers)
    if missing := [name for name in names if name not in modules]:
        raise ModelError(f"the model has no layer {missing[0]!r}")
    if not isinstance(criterion, KINDS):
        raise CriterionError(f"{criterion!r} is none of {', '.join(kind.__name__ for kind in KINDS)}")
    found = Scored(layers={}, samples=0, run={})
    if isinstance(criterion, WeightCriterion):
        found = replace(found, layers={name: _score_weights(name, modules[name], criterion) for name in names})
    elif isinstance(criterion, NormCriterion):
        found = replace(found, layers=_score_norms(model, names, criterion, example, batches))
    elif batches is None:
        raise DataError(f"criterion {criterion.name!r} needs calibration data", hint="Give --data.")
    elif isinstance(criterion, CloudCriterion):
        found = score_clouds(
            model, names, criterion, batches, resources=resources, maps=maps, store=store, progress=progress
        )
    elif isinstance(criterion, MapCriterion):
        found = score_maps(model, names, criterion, batches, progress=progress)
    elif isinstance(criterion, GradientCriterion):
        by_gradients = score_rebuilt if criterion.rebuilt else score_gradients
        found = by_gradients(model, names, criterion, batches, groups=groups, resources=resources, progress=progress)
    return Scores(
        criterion=criterion.name,
        higher=criterion.higher,
        comparable=criterion.comparable,
        settings={**criterion.settings(), **(maps.settings() if isinstance(criterion, CloudCriterion) else {})},
        layers=found.layers,
        samples=found.samples,
        model=fingerprint(model),
        run=found.run,
    )


def read_maps(criterion: Criterion, maps: Maps | None) -> Maps:
    """How maps become the points of clouds: as was asked, or else as the criterion has it."""
    if maps is None and isinstance(criterion, CloudCriterion):
        return Maps(size=criterion.map_size)
    return maps or EXACT


def open_store(
    cache: Path, model: nn.Module, criterion: Criterion, data: str, *, maps: Maps = EXACT, resume: bool = False
) -> ScoreStore:
    """Where the scores of this model, criterion and data are kept.

    Args:
        cache: Folder of all stores.
        model: The network.
        criterion: What scores.
        data: Fingerprint of the calibration samples and their preparation.
        maps: How maps become points.
        resume: Continue what an interrupted run has left.
    """
    key = {
        "topocompress": topocompress.__version__,
        "weights": fingerprint(model),
        "network": [repr(model), _source(model)],
        "device": device_of(model).type,
        "data": data,
        "criterion": [criterion.name, type(criterion).__module__, type(criterion).__qualname__, _source(criterion)],
        "settings": {**criterion.settings(), **maps.settings()},
    }
    return ScoreStore(cache, key, resume=resume)


def _source(instance: object) -> str:
    """The text of an object's class, so that scores do not outlive a change of it; empty where there is none."""
    try:
        return inspect.getsource(type(instance))
    except (OSError, TypeError):
        return ""


def _score_weights(name: str, module: nn.Module, criterion: WeightCriterion) -> LayerScores:
    if not isinstance(module, LAYERS):
        raise ModelError(f"{name} is a {type(module).__name__}; only convolutions and linear layers are scored")
    weight = filters_of(module).detach().to("cpu", torch.float32, copy=True)
    if not torch.isfinite(weight).all():
        raise ModelError(f"{name}: NaN or infinity among its weights")
    values, parts = checked(name, criterion, criterion.score(weight), len(weight))
    return LayerScores(values=values, parts=parts, dead=(weight.flatten(1) == 0).all(dim=1).numpy())


def _score_norms(
    model: nn.Module,
    names: Sequence[str],
    criterion: NormCriterion,
    example: Tensor | None,
    batches: Batches | None,
) -> dict[str, LayerScores]:
    sample = example
    for images, _ in batches or () if sample is None else ():
        sample = images[:1]
        break
    if sample is None:
        raise DataError(f"criterion {criterion.name!r} needs an example input", hint="Give example= or batches.")
    found = {}
    for name, norm in following_norms(model, names, sample).items():
        learned = getattr(norm, "weight", None)
        if not isinstance(learned, Tensor) or learned.ndim != 1:
            continue
        scale = learned.detach().to("cpu", torch.float32, copy=True)
        if not torch.isfinite(scale).all():
            raise ModelError(f"{name}: NaN or infinity in the scale of the norm behind it")
        values, parts = checked(name, criterion, criterion.score(scale), len(scale))
        found[name] = LayerScores(values=values, parts=parts, dead=(scale == 0).numpy())
    if not found:
        raise CriterionError(
            f"criterion {criterion.name!r} reads norms, and no norm with a learned scale follows any layer",
            hint="Choose another criterion, such as persistence or l1.",
        )
    return {name: found[name] for name in names if name in found}
