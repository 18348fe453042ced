"""Scores from maps, one sample at a time, in one forward pass; and which filters are dead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from topocompress.criteria.base import MapCriterion, checked
from topocompress.errors import DataError, ModelError
from topocompress.network.capture import Batches
from topocompress.network.hook_points import hooked
from topocompress.runtime.progress import Progress
from topocompress.scoring.clouds import Scored
from topocompress.scoring.workers import DEAD
from topocompress.types import LayerScores


@dataclass
class Constancy:
    """Tells, batch by batch, whether a filter's map is the same for every sample."""

    _first: dict[str, Tensor] = field(default_factory=dict)
    _apart: dict[str, Tensor] = field(default_factory=dict)

    def see(self, layer: str, maps: Tensor) -> None:
        """Take (samples, filters, ...) maps into account."""
        flat = maps.detach().flatten(2) if maps.ndim > 2 else maps.detach()[:, :, None]
        first = self._first.setdefault(layer, flat[0].clone())
        apart = (flat - first).abs().amax(dim=(0, 2))
        self._apart[layer] = torch.maximum(self._apart[layer], apart) if layer in self._apart else apart

    def dead(self, layer: str) -> NDArray[np.bool_]:
        """(filters,) True where no map differs from the first by more than rounding."""
        size = self._first[layer].abs().amax(dim=1)
        found: NDArray[np.bool_] = (self._apart[layer] <= DEAD * size).cpu().numpy()
        return found


def check_maps(layer: str, maps: Tensor, samples: int) -> None:
    """Refuse maps that cannot be judged.

    Raises:
        ModelError: NaN or infinity, or not one map per sample.
    """
    if len(maps) != samples:
        raise ModelError(
            f"{layer}: {len(maps)} maps for {samples} samples; it does not see each sample once",
            hint="Keep it whole with --ignore.",
        )
    if not (maps.sum().isfinite() or maps.isfinite().all()):
        raise ModelError(
            f"{layer}: NaN or infinity in its maps",
            hint="Check the weights and that inputs are normalised as in training (--mean, --std).",
        )


def score_maps(
    model: nn.Module, names: Sequence[str], criterion: MapCriterion, batches: Batches, *, progress: Progress
) -> Scored:
    """Score the filters of some layers; see :func:`topocompress.scoring.dispatch.score_layers`."""
    total = sum(len(images) for images, _ in batches)
    wanted = total if criterion.most_samples is None else min(total, criterion.most_samples)
    if not wanted:
        raise DataError("no calibration samples", hint="Give --data.")
    sums: dict[str, NDArray[np.float64]] = {}
    constancy, order, seen, arriving = Constancy(), list[str](), 0, 0
    delivered: set[str] = set()

    def deliver(layer: str, maps: Tensor) -> None:
        if layer in delivered:  # a layer that runs twice per pass is judged by its first run
            return
        delivered.add(layer)
        check_maps(layer, maps, arriving)
        constancy.see(layer, maps)
        square = maps.flatten(2, -2) if maps.ndim > 3 else maps.reshape(*maps.shape[:2], -1, 1)
        raw = criterion.score(square.float())
        filters = maps.shape[1]
        per_sample = [checked(layer, criterion, each, filters)[0] for each in raw.cpu()] if raw.ndim == 2 else []
        if len(per_sample) != len(maps):
            checked(layer, criterion, raw.flatten()[:0], filters)  # says what shape is asked for
        sums[layer] = sums.get(layer, np.zeros(filters)) + np.sum(per_sample, axis=0)

    with hooked(model, names, deliver, order=order) as run:
        for images, _ in batches:
            if not images.isfinite().all():
                raise DataError(f"NaN or infinity among input samples {seen}..{seen + len(images) - 1}")
            delivered.clear()
            part = images[: wanted - seen]
            arriving = len(part)
            run(part)
            seen += arriving
            progress("scoring maps", seen, wanted)
            if seen == wanted:
                break
    layers = {name: LayerScores(values=sums[name] / wanted, dead=constancy.dead(name)) for name in dict.fromkeys(order)}
    return Scored(layers=layers, samples=wanted, run={"passes": 1})
