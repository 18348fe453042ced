"""Scores from what nobody else can say: a filter's effect on the output, less what the others' maps make up for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from topocompress.criteria.base import GradientCriterion, checked
from topocompress.errors import DataError, ModelError
from topocompress.network.capture import Batches
from topocompress.network.masks import MapTaps, masked
from topocompress.runtime.progress import Progress
from topocompress.runtime.resources import Resources
from topocompress.scoring.clouds import Scored
from topocompress.scoring.gradients import GradientWork, along_each, points_of
from topocompress.scoring.joint import worth_alone
from topocompress.scoring.rebuilding import Moments, Unsaid, losses_of, order_of_least
from topocompress.scoring.units import Units, effects_of_units, norms_of_units

_POINTS = 8
"""Shares of a group at which the loss is looked at."""
_MATRICES = 4  # of (channels, channels) float64, that are there for a layer
_PRODUCTS = 64 << 20  # bytes of (channels, channels) of some samples at a time


def score_rebuilt(
    model: nn.Module,
    names: Sequence[str],
    criterion: GradientCriterion,
    batches: Batches,
    *,
    groups: Sequence[Units] | None,
    resources: Resources,
    progress: Progress,
) -> Scored:
    """Score the filters of some layers; see :func:`topocompress.scoring.dispatch.score_layers`.

    Two looks at every sample. The first finds which channels go before which: each time those whose maps the others can
    best make up for. The second finds what is lost then, to first order, when an eighth, two eighths and so on are gone
    and the others say what they can. The squared score is what a unit adds to that loss.
    """
    work = GradientWork.begin(model, names, criterion, batches, groups, resources, progress)
    packs = list(_packs(work.groups, work.widths, resources.bytes // 2))
    found: list[tuple[Units, NDArray[np.float64]]] = []
    for number, pack in enumerate(packs):
        seen = _Seen(work, pack, (2 * number * work.samples, 2 * len(packs) * work.samples))
        found += zip(pack, seen.scores(), strict=True)
    return work.scored(found, passes=1 + 2 * len(packs))


def _packs(groups: Sequence[Units], widths: Mapping[str, int], budget: int) -> Iterator[list[Units]]:
    """Groups that fit into memory together."""
    pack, free = list[Units](), budget
    for group in groups:
        needed = sum(_MATRICES * 8 * widths[layer] ** 2 for layer in group)
        if pack and needed > free:
            yield pack
            pack, free = [], budget
        pack.append(group)
        free -= needed
    if pack:
        yield pack


class _Seen:
    """What has been seen of some groups."""

    def __init__(self, work: GradientWork, groups: Sequence[Units], progress: tuple[int, int]) -> None:
        self.work, self.groups, self._done, self._total = work, groups, *progress
        self.layers = [layer for group in groups for layer in group]
        self.moments = {layer: Moments.none(work.widths[layer]) for layer in self.layers}

    def scores(self) -> Iterator[NDArray[np.float64]]:
        """(units,) of each group: the root of what a unit adds to the loss."""
        criterion, orders, counts = self.work.criterion, list[list[int]](), list[list[int]]()
        for group, alone in zip(self.groups, self._alone(), strict=True):
            own = checked(" + ".join(group), criterion, criterion.score(alone), alone.shape[1])[0]
            worth = criterion.alone * worth_alone(own, norms_of_units(group, self.work.model), criterion.norm)
            orders.append(order_of_least([(self.moments[layer], units) for layer, units in group.items()], worth))
            units = len(own)
            counts.append(sorted({max(1, round(units * share / _POINTS)) for share in range(1, _POINTS + 1)}))
        unsaid = [
            [
                {
                    layer: Unsaid.without(self.moments[layer], [c for unit in order[:count] for c in units[unit]])
                    for layer, units in group.items()
                }
                for count in each
            ]
            for group, order, each in zip(self.groups, orders, counts, strict=True)
        ]
        self._look(unsaid)
        for order, each, found in zip(orders, counts, unsaid, strict=True):
            losses = [_mean_square(layers.values()) for layers in found]
            scores = np.empty(len(order))
            scores[order] = np.sqrt(losses_of(each, losses))
            yield scores

    def _alone(self) -> list[Tensor]:
        """(rows, units) of each group, the effects of units by themselves; moments on the way."""
        found: list[list[NDArray[np.float64]]] = [[] for _ in self.groups]
        for slopes in self._passes(first=True):
            effects: dict[str, Tensor] = {}
            for layer, maps, gradients in slopes:
                moments = self.moments[layer]
                moments.slope += gradients.double().square().sum(dim=(0, 2)).cpu()
                here = (maps * gradients).sum(dim=2)
                effects[layer] = effects[layer] + here if layer in effects else here
            for each, group in zip(found, self.groups, strict=True):
                units = len(next(iter(group.values())))
                each.append(effects_of_units(group, effects, units))
        if not all(found):
            raise DataError(
                "the batches can be iterated only once", hint="Give a DataLoader or a list, not a generator."
            )
        return [torch.from_numpy(np.concatenate(each)) for each in found]

    def _look(self, unsaid: list[list[dict[str, Unsaid]]]) -> None:
        """Fill in the effects of what is left unsaid."""
        wanted: dict[str, list[Unsaid]] = {}
        for points in unsaid:
            for layers in points:
                for layer, each in layers.items():
                    wanted.setdefault(layer, []).append(each)
        for slopes in self._passes(first=False):
            effects: dict[str, list[Tensor]] = {}
            for layer, maps, gradients in slopes:
                piece = max(1, _PRODUCTS // (4 * maps.shape[1] ** 2))
                parts: list[list[Tensor]] = [[] for _ in wanted[layer]]
                for a, g in zip(torch.split(maps, piece), torch.split(gradients, piece), strict=True):
                    products, total = g @ a.transpose(1, 2), g.sum(dim=2)
                    for part, each in zip(parts, wanted[layer], strict=True):
                        part.append(each.effect(products, total).double().cpu())
                here = [torch.cat(part) for part in parts]
                effects[layer] = (
                    [x + y for x, y in zip(effects[layer], here, strict=True)] if layer in effects else here
                )
            for layer, here in effects.items():
                for each, effect in zip(wanted[layer], here, strict=True):
                    each.effects.append(effect)

    def _passes(self, *, first: bool) -> Iterator[Iterator[tuple[str, Tensor, Tensor]]]:
        """For each batch and draw: layer, (samples, channels, positions) maps, gradients there."""
        work, taps = self.work, MapTaps()
        with masked(work.model, self.layers, taps, layout=work.layout) as run, torch.enable_grad():
            for start, images in work.chunks():
                stop = start + len(images)
                taps.expect()
                outputs = points_of(work.read(run(images), len(images)))
                along = work.directions[:, start:stop].to(outputs)
                names = [layer for layer, maps in taps.maps.items() for _ in maps]
                maps = [each for several in taps.maps.values() for each in several]
                flat = [self._flat(layer, each.detach(), stop - start) for layer, each in zip(names, maps, strict=True)]
                if first:
                    for layer, each in zip(names, flat, strict=True):
                        self.moments[layer].add(each)
                for slopes in along_each(outputs, along, maps):
                    bent = (self._flat(layer, slope, stop - start) for layer, slope in zip(names, slopes, strict=True))
                    yield zip(names, flat, bent, strict=True)
                self._done += len(images)
                work.progress("measuring effects", self._done, self._total)

    def _flat(self, layer: str, maps: Tensor, samples: int) -> Tensor:
        """(samples, channels, positions)."""
        if len(maps) != samples:
            raise ModelError(
                f"{layer}: {len(maps)} maps for {samples} samples; it does not see each sample once",
                hint="Keep it whole with --ignore.",
            )
        if isinstance(self.work.model.get_submodule(layer), nn.Linear):
            maps = maps.movedim(-1, 1)
        return maps.flatten(2) if maps.ndim > 2 else maps[..., None]


def _mean_square(layers: Iterable[Unsaid]) -> float:
    """Of the effects of all layers together, over samples and draws."""
    return float(torch.stack([torch.cat(each.effects) for each in layers]).sum(dim=0).square().mean())
