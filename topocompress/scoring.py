"""Model + criterion + data → :class:`~topocompress.types.Scores`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from topocompress.capture import Batches, Slice, collect_clouds, map_shapes, plan_passes
from topocompress.criteria.base import CloudCriterion, Criterion, WeightCriterion
from topocompress.errors import CriterionError, DataError, ModelError
from topocompress.models import fingerprint
from topocompress.topology import mean_distances, pairwise_distances
from topocompress.types import LayerScores, Scores

Progress = Callable[[str, int, int], None]
"""``progress(step, done, total)``, called as work proceeds. What follows a colon in ``step`` is passing detail."""

_DEAD = 1e-6
"""A filter is dead when its maps differ between samples by less than this share of their largest value."""

MEMORY = 4 << 30
"""Default budget for the clouds of one pass, bytes."""


def silent(step: str, done: int, total: int) -> None:
    """A progress callback that shows nothing."""


def score_layers(
    model: nn.Module,
    layers: Iterable[str],
    criterion: Criterion,
    batches: Batches | None = None,
    *,
    memory: int = MEMORY,
    progress: Progress = silent,
) -> Scores:
    """Score every filter of some layers.

    Args:
        model: The network; weights, mode, hooks and RNG are left as they were.
        layers: Names of Conv2d or Linear modules.
        criterion: What to score with.
        batches: Calibration samples as batches of (images (B, C, H, W), labels (B,)), re-iterable; may be ``None``
            for a criterion that reads weights alone.
        memory: Bytes that feature clouds may take at one time.
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
        scored, samples, run = _score_clouds(model, names, criterion, batches, memory, progress)
    else:
        raise CriterionError(f"{criterion!r} is neither a WeightCriterion nor a CloudCriterion")
    return Scores(
        criterion=criterion.name,
        higher=criterion.higher,
        settings=criterion.settings(),
        layers=scored,
        samples=samples,
        model=fingerprint(model),
        run=run,
    )


def _score_weights(name: str, module: nn.Module, criterion: WeightCriterion) -> LayerScores:
    if not isinstance(module, (nn.Conv2d, nn.Linear)):
        raise ModelError(f"{name} is a {type(module).__name__}; only Conv2d and Linear layers are scored")
    weight = module.weight.detach().to("cpu", torch.float32, copy=True)
    if not torch.isfinite(weight).all():
        raise ModelError(f"{name}: NaN or infinity among its weights")
    values, parts = _check(name, criterion, criterion.score(weight), len(weight), ())
    return LayerScores(values=values, parts=parts, dead=(weight.flatten(1) == 0).all(dim=1).numpy())


def _score_clouds(
    model: nn.Module,
    names: Sequence[str],
    criterion: CloudCriterion,
    batches: Batches,
    memory: int,
    progress: Progress,
) -> tuple[dict[str, LayerScores], int, dict[str, int]]:
    sizes = [len(images) for images, _ in batches]
    samples = sum(sizes)
    if samples < 2:
        raise DataError(f"topology needs at least 2 calibration samples, got {samples}", hint="Raise --samples.")
    first, _ = next(iter(batches), (None, None))
    if first is None:
        raise DataError("the batches can be iterated only once", hint="Give a DataLoader or a list, not a generator.")
    shapes = map_shapes(model, names, first[:1])
    passes = plan_passes(shapes, samples, memory)
    filters = sum(channels for channels, _ in shapes.values())
    forwards = samples * len(passes) * (2 if criterion.needs_spread else 1)
    done = {"samples": 0, "filters": 0}

    def on_batch(count: int) -> None:
        done["samples"] += count
        progress("running samples", done["samples"], forwards)

    def on_filter() -> None:
        done["filters"] += 1
        progress("scoring filters", done["filters"], filters)

    def clouds_of(slices: Sequence[Slice]) -> list[Tensor]:
        return collect_clouds(model, slices, batches, samples, on_batch=on_batch)

    spread = _layer_spread(passes, clouds_of, shapes) if criterion.needs_spread else {}
    pieces: dict[str, list[tuple[NDArray[np.float64], NDArray[np.bool_]]]] = {name: [] for name in shapes}
    for slices in passes:
        for part, cloud in zip(slices, clouds_of(slices), strict=True):
            raw = criterion.score(cloud, layer_spread=spread.get(part.layer), on_filter=on_filter)
            pieces[part.layer].append((np.asarray(raw, dtype=np.float64), _dead(cloud)))
        del cloud  # else it would still be held while the next pass fills the budget
    scored = {}
    for name, found in pieces.items():
        raw = np.concatenate([values for values, _ in found])
        values, parts = _check(name, criterion, raw, shapes[name][0], criterion.parts)
        scored[name] = LayerScores(values=values, parts=parts, dead=np.concatenate([dead for _, dead in found]))
    peak = max((sum(4 * samples * part.features * (part.stop - part.start) for part in p) for p in passes), default=0)
    return scored, samples, {"passes": len(passes), "peak_cloud_bytes": peak}


def _layer_spread(
    passes: Sequence[Sequence[Slice]],
    clouds_of: Callable[[Sequence[Slice]], list[Tensor]],
    shapes: dict[str, tuple[int, int]],
) -> dict[str, float]:
    total = dict.fromkeys(shapes, 0.0)
    for slices in passes:
        for part, clouds in zip(slices, clouds_of(slices), strict=True):
            for cloud in clouds:
                total[part.layer] += float(mean_distances(pairwise_distances(cloud[None]))[0])
        del clouds, cloud  # as above
    return {name: total[name] / channels for name, (channels, _) in shapes.items()}


def _dead(clouds: Tensor) -> NDArray[np.bool_]:
    """(filters,) bool: the map is the same for every sample, up to rounding."""
    low, high = clouds.amin(dim=1), clouds.amax(dim=1)
    size = torch.maximum(low.abs(), high.abs()).amax(dim=1)
    dead: NDArray[np.bool_] = ((high - low).amax(dim=1) <= _DEAD * size).numpy()
    return dead


def _check(
    name: str, criterion: Criterion, raw: Tensor | NDArray[np.float64], filters: int, parts: tuple[str, ...]
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    array = np.asarray(raw, dtype=np.float64)
    shape = (filters, len(parts)) if parts else (filters,)
    if array.shape != shape:
        raise CriterionError(
            f"criterion {criterion.name!r} returned shape {array.shape} for {name}, expected {shape}",
            hint="score() returns one number per filter, or one per filter and part.",
        )
    if not np.isfinite(array).all():
        raise CriterionError(f"criterion {criterion.name!r} returned NaN or infinity for {name}")
    if not parts:
        return array, {}
    return array.sum(axis=1), {part: array[:, index] for index, part in enumerate(parts)}
