"""Model + criterion + data → :class:`~topocompress.types.Scores`."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

import topocompress
from topocompress.capture import EXACT, Batches, Maps
from topocompress.cloud_scoring import Progress, score_clouds
from topocompress.criteria.base import CloudCriterion, Criterion, WeightCriterion, checked
from topocompress.errors import CriterionError, DataError, ModelError
from topocompress.inference import device_of
from topocompress.models import fingerprint
from topocompress.resources import Resources
from topocompress.score_store import ScoreStore
from topocompress.types import LayerScores, Scores

ANY = Resources()
"""Whatever the machine has."""


def silent(step: str, done: int, total: int) -> None:
    """A progress callback that shows nothing."""


def score_layers(
    model: nn.Module,
    layers: Iterable[str],
    criterion: Criterion,
    batches: Batches | None = None,
    *,
    resources: Resources = ANY,
    maps: Maps = EXACT,
    store: ScoreStore | None = None,
    progress: Progress = silent,
) -> Scores:
    """Score every filter of some layers.

    Args:
        model: The network; weights, mode, hooks and RNG are left as they were.
        layers: Names of Conv2d or Linear modules.
        criterion: What to score with.
        batches: Calibration samples as batches of (images (B, C, H, W), labels (B,)), re-iterable; may be ``None``
            for a criterion that reads weights alone.
        resources: Memory and processes; the scores do not depend on them.
        maps: How maps become the points of clouds; exact by default.
        store: Where finished layers are kept and looked up; nowhere if ``None``.
        progress: Called as work proceeds.

    Returns:
        One :class:`LayerScores` per layer, in the order in which the layers run.

    Raises:
        DataError: No batches, fewer than two samples, or NaN among them.
        ModelError: A layer is missing or gives NaN.
        CriterionError: The criterion returned something that is not one finite number per filter.
    """
    modules = dict(model.named_modules())
    names = list(layers)
    if missing := [name for name in names if name not in modules]:
        raise ModelError(f"the model has no layer {missing[0]!r}")
    if isinstance(criterion, WeightCriterion):
        scored = {name: _score_weights(name, modules[name], criterion) for name in names}
        samples, run = 0, dict[str, int]()
    elif isinstance(criterion, CloudCriterion):
        if batches is None:
            raise DataError(f"criterion {criterion.name!r} needs calibration data", hint="Give --data.")
        clouds = score_clouds(
            model, names, criterion, batches, resources=resources, maps=maps, store=store, progress=progress
        )
        scored, samples, run = clouds.layers, clouds.samples, clouds.run
    else:
        raise CriterionError(f"{criterion!r} is neither a WeightCriterion nor a CloudCriterion")
    return Scores(
        criterion=criterion.name,
        higher=criterion.higher,
        settings={**criterion.settings(), **(maps.settings() if samples else {})},
        layers=scored,
        samples=samples,
        model=fingerprint(model),
        run=run,
    )


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
    if not isinstance(module, (nn.Conv2d, nn.Linear)):
        raise ModelError(f"{name} is a {type(module).__name__}; only Conv2d and Linear layers are scored")
    weight = module.weight.detach().to("cpu", torch.float32, copy=True)
    if not torch.isfinite(weight).all():
        raise ModelError(f"{name}: NaN or infinity among its weights")
    values, parts = checked(name, criterion, criterion.score(weight), len(weight))
    return LayerScores(values=values, parts=parts, dead=(weight.flatten(1) == 0).all(dim=1).numpy())
