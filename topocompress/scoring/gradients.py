"""Scores from what filters do to the network's output, to first order: masks, and one backward pass per draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from topocompress.criteria.base import GradientCriterion, checked
from topocompress.errors import CriterionError, DataError, ModelError
from topocompress.network.batchnorm import estimating, with_statistics
from topocompress.network.capture import Batches, averaged_down
from topocompress.network.copying import copied
from topocompress.network.detectors import POOLED, is_detector, judged
from topocompress.network.inference import first_line
from topocompress.network.masks import FilterMasks, masked
from topocompress.network.memory_layout import fast_layout
from topocompress.network.outputs import watched
from topocompress.runtime.progress import Progress
from topocompress.runtime.resources import Resources
from topocompress.scoring.clouds import Scored
from topocompress.scoring.joint import Removal, least_joint, worth_alone
from topocompress.scoring.maps import Constancy, check_maps
from topocompress.scoring.units import Units, effects_of_units, known_layers, norms_of_units
from topocompress.types import LayerScores

_COPIES = 6  # of every map, that autograd and the operations between two hook points hold


def score_gradients(
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

    Filters that can only go together are judged together: their effects add up.
    """
    work = GradientWork.begin(model, names, criterion, batches, groups, resources, progress)
    removals: list[Removal] = []
    for number in range(criterion.looks):
        found, drift = work.effects(number, removals)
        if not removals:
            removals = [work.begun(group, each) for group, each in zip(work.groups, found, strict=True)]
        if criterion.looks == 1:
            break
        for removal, effects in zip(removals, found, strict=True):
            each = effects.astype(np.float64)
            gone = least_joint(each, removal.on, drift, removal.quota(number, criterion.looks), removal.worth)
            drift -= each[:, gone].sum(axis=1)
            removal.order += gone
    scores = [removal.scores() if removal.order else removal.alone for removal in removals]
    return work.scored(zip(work.groups, scores, strict=True), passes=1 + criterion.looks)


@dataclass
class GradientWork:
    """A network, its samples and the directions in which its outputs are watched."""

    model: nn.Module
    criterion: GradientCriterion
    batches: Batches
    groups: list[Units]
    widths: dict[str, int]
    constancy: Constancy
    outputs: Tensor
    directions: Tensor
    chunk: int
    layout: torch.memory_format
    read: Callable[[Any, int], Tensor]
    progress: Progress

    @classmethod
    def begin(
        cls,
        model: nn.Module,
        names: Sequence[str],
        criterion: GradientCriterion,
        batches: Batches,
        groups: Sequence[Units] | None,
        resources: Resources,
        progress: Progress,
    ) -> GradientWork:
        """Run the samples through the whole network once and ask the criterion for its directions."""
        if criterion.needs_labels and is_detector(model):
            raise CriterionError(
                f"criterion {criterion.name!r} needs one class per image, which a detector does not give",
                hint="Choose one that needs none, such as persistence.",
            )
        model = judged(model)
        constancy, widths, found, labels = Constancy(), dict[str, int](), list[Tensor](), list[Tensor]()
        sizes: dict[str, int] = {}

        def look(layer: str, maps: Tensor) -> Tensor:
            if layer not in seen:  # a layer that runs twice is described by its first run
                seen.add(layer)
                moved = maps.movedim(-1, 1) if isinstance(model.get_submodule(layer), nn.Linear) else maps
                check_maps(layer, moved, arriving)
                constancy.see(layer, moved)
                widths[layer], sizes[layer] = moved.shape[1], moved[0].numel()
            return maps

        images, given = next(iter(batches), (torch.empty(0), torch.empty(0)))
        if len(images) == 0:
            raise DataError("at least 2 calibration samples are needed, got 0", hint="Raise --samples.")
        layout = fast_layout(model, images[:1])
        read = watched(model, images, given.ndim - 1 if criterion.needs_labels and isinstance(given, Tensor) else None)
        with masked(model, names, look, layout=layout) as run:
            for images, given in batches:
                if not images.isfinite().all():
                    raise DataError(f"NaN or infinity in input samples from {sum(map(len, found))} on")
                seen, arriving = set[str](), len(images)
                found.append(points_of(read(run(images), arriving)).cpu())
                labels.append(given if isinstance(given, Tensor) else torch.full((arriving,), -1))
        samples = sum(map(len, found))
        if samples < 2:
            raise DataError(f"at least 2 calibration samples are needed, got {samples}", hint="Raise --samples.")
        outputs = torch.cat(found)
        if not outputs.isfinite().all():
            raise ModelError("NaN or infinity in the model's output", hint="Check the weights and the normalisation.")
        whole: list[Units] = [{name: tuple((c,) for c in range(width))} for name, width in widths.items()]
        chosen = whole if groups is None else known_layers(groups, widths)
        return cls(
            model=model,
            criterion=criterion,
            batches=batches,
            groups=chosen,
            widths={name: width for name, width in widths.items() if any(name in group for group in chosen)},
            constancy=constancy,
            outputs=outputs,
            directions=_directions(criterion, outputs, labels),
            chunk=max(1, resources.bytes // max(1, 4 * _COPIES * sum(sizes.values()))),
            layout=layout,
            read=read,
            progress=progress,
        )

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self.outputs)

    @property
    def rows(self) -> int:
        """Rows of effects: draws · samples."""
        return len(self.directions) * self.samples

    def begun(self, group: Units, effects: NDArray[np.float32]) -> Removal:
        """A group of which nothing has gone yet, and each of its units judged by itself."""
        raw = self.criterion.score(torch.from_numpy(effects).double())
        alone = checked(" + ".join(group), self.criterion, raw, effects.shape[1])[0]
        if not self.criterion.alone:
            return Removal(alone=alone)
        worth = self.criterion.alone * worth_alone(alone, norms_of_units(group, self.model), self.criterion.norm)
        if self.criterion.looks > 1:
            return Removal(alone=alone, worth=worth)
        squares = np.square(alone)
        order = np.argsort(squares + worth * squares.mean(), kind="stable")
        return Removal(alone=alone, worth=worth, order=order.tolist())

    def effects(
        self, number: int, removals: Sequence[Removal]
    ) -> tuple[list[NDArray[np.float32]], NDArray[np.float64]]:
        """Effects of every group's units in the network that is left, and how far its outputs have drifted.

        Returns:
            One (rows, units) array per group, and (rows,).
        """
        layers = list(self.widths)
        masked_filters = FilterMasks(self.model, layers)
        for group, removal in zip(self.groups, removals, strict=False):
            for layer, units in group.items():
                on = torch.ones(self.widths[layer])
                on[[c for unit, alive in zip(units, removal.on, strict=True) if not alive for c in unit]] = 0
                masked_filters.set(layer, on)
        draws = len(self.directions)
        widths = [len(next(iter(group.values()))) for group in self.groups]
        found = [np.zeros((draws, self.samples, width), dtype=np.float32) for width in widths]
        drift = np.zeros((draws, self.samples))
        total = self.criterion.looks * self.samples
        model = self._settled(layers, masked_filters) if self.criterion.settled and removals else self.model
        with masked(model, layers, masked_filters, layout=self.layout) as run, torch.enable_grad():
            for start, images in self.chunks():
                stop = start + len(images)
                masked_filters.expect(len(images))
                outputs = points_of(self.read(run(images), len(images)))
                along = self.directions[:, start:stop].to(outputs)
                moved = (outputs.detach() - self.outputs[start:stop].to(outputs)) * along
                drift[:, start:stop] = moved.flatten(2).sum(dim=2).cpu().numpy()
                names, masks = list(masked_filters.maps), list(masked_filters.maps.values())
                for draw, each in enumerate(along_each(outputs, along, masks)):
                    slopes = dict(zip(names, each, strict=True))
                    for array, group in zip(found, self.groups, strict=True):
                        array[draw, start:stop] = effects_of_units(group, slopes, array.shape[2])
                self.progress("measuring effects", number * self.samples + stop, total)
        return [array.reshape(self.rows, -1) for array in found], drift.reshape(-1)

    def _settled(self, layers: list[str], masked_filters: FilterMasks) -> nn.Module:
        """A copy whose BatchNorm statistics are those of the network that is left."""
        if not any(True for _ in with_statistics(self.model)):
            return self.model
        settled = copied(self.model)
        with masked(settled, layers, masked_filters, layout=self.layout) as run, estimating(settled):
            for images, _ in self.batches:
                if len(images) > 1:
                    masked_filters.expect(len(images))
                    run(images)
        return settled

    def scored(self, found: Iterable[tuple[Units, NDArray[np.float64]]], *, passes: int) -> Scored:
        """Groups and the (units,) scores of each, as scores of the layers' filters."""
        values = {name: np.zeros(count) for name, count in self.widths.items()}
        for group, scores in found:
            for layer, units in group.items():
                for unit, channels in enumerate(units):
                    values[layer][list(channels)] = scores[unit]
        layers = {name: LayerScores(values=values[name], dead=self.constancy.dead(name)) for name in self.widths}
        return Scored(layers=layers, samples=self.samples, run={"passes": passes})

    def chunks(self) -> Iterator[tuple[int, Tensor]]:
        """The samples as they are run: number of the first, and (b, ...) images."""
        start = 0
        for images, _ in self.batches:
            for part in _pieces(images, self.chunk):
                yield start, part
                start += len(part)


def along_each(outputs: Tensor, along: Tensor, inputs: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients of outputs in one direction after the other, 0 where they do not depend on an input.

    Args:
        outputs: (samples, ...).
        along: (draws, samples, ...).
        inputs: What is differentiated by.

    Raises:
        ModelError: The outputs have no gradient.
    """
    if not outputs.requires_grad:
        raise ModelError(
            "the model's output does not depend on its layers in a way that gradients can follow",
            hint="Its forward pass must not run under torch.no_grad; or choose a criterion without gradients.",
        )
    for draw, direction in enumerate(along):
        more = draw < len(along) - 1
        try:
            found = torch.autograd.grad((outputs * direction).sum(), inputs, retain_graph=more, allow_unused=True)
        except RuntimeError as error:
            raise ModelError(
                f"gradients cannot be followed through the network: {first_line(error)}",
                hint="It must be trainable as it is; or choose a criterion without gradients, such as l1.",
            ) from error
        yield [torch.zeros_like(each) if slope is None else slope for each, slope in zip(inputs, found, strict=True)]


def points_of(output: Tensor) -> Tensor:
    """(samples, classes) or, averaged down, (samples, classes, [d,] h, w) of the watched output."""
    return averaged_down(output, POOLED)


def _pieces(images: Tensor, size: int) -> Iterator[Tensor]:
    for start in range(0, len(images), size):
        yield images[start : start + size]


def _directions(criterion: GradientCriterion, outputs: Tensor, labels: Sequence[Tensor]) -> Tensor:
    given = torch.cat([part.cpu() for part in labels]).long() if labels else torch.empty(0, dtype=torch.long)
    known = len(given) == len(outputs) and given.ndim == 1 and bool((given >= 0).all())
    if criterion.needs_labels and not known:
        raise DataError(
            f"criterion {criterion.name!r} needs the label of every calibration sample",
            hint="Give labelled --data, or choose a criterion that needs none, such as persistence.",
        )
    if criterion.needs_labels and outputs.shape[1:] == (1,) and int(given.max()) <= 1:
        both = torch.cat([torch.zeros_like(outputs), outputs], dim=1)  # cross-entropy of a logit is that of 0 and it
        return criterion.directions(both, given)[..., 1:].detach()
    if criterion.needs_labels and int(given.max()) >= outputs.shape[1]:
        raise DataError(f"label {int(given.max())} for a model with {outputs.shape[1]} outputs")
    found = criterion.directions(outputs.clone(), given if known else None)
    if found.ndim != outputs.ndim + 1 or found.shape[1:] != outputs.shape or not len(found):
        raise CriterionError(
            f"criterion {criterion.name!r} returned directions of shape {tuple(found.shape)} for outputs "
            f"{tuple(outputs.shape)}",
            hint="directions() returns (draws, *outputs.shape).",
        )
    if not found.isfinite().all():
        raise CriterionError(f"criterion {criterion.name!r} returned NaN or infinity among its directions")
    return found.detach()
