"""What a criterion is: a name, a direction, and one function from what it reads to one score per filter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from topocompress.errors import CriterionError
from topocompress.types import Direction

if TYPE_CHECKING:  # the processes that score clouds do not load torch
    from torch import Tensor


class Criterion(ABC):
    """Base of all criteria. Subclass one of the five kinds below; they differ in what a filter is judged by.

    :class:`WeightCriterion` its weights, :class:`NormCriterion` the norm that follows, :class:`MapCriterion` its maps
    one sample at a time, :class:`CloudCriterion` its maps of all samples together, and :class:`GradientCriterion` what
    its removal does to the network's output, to first order.

    The first line of a subclass's docstring is what ``topocompress criteria`` prints.

    Attributes:
        name: What users call it; lower case with hyphens.
        higher: Whether a higher score speaks for keeping or for removing the filter. A setting may turn it round.
        comparable: Whether scores of different layers are in one unit, so that a loss can be weighed against the
            multiply-accumulates it saves.
    """

    name: ClassVar[str]
    higher: Direction
    comparable: ClassVar[bool] = False

    def settings(self) -> dict[str, Any]:
        """The settings that produced the scores, as plain data; written into ``scores.json``."""
        return dict(sorted(vars(self).items()))

    def before_tuning(self) -> Criterion:
        """The criterion to use where fine-tuning follows: itself, unless it has a better setting for that."""
        return self

    def before_reconstruction(self) -> Criterion:
        """The criterion to use where what reads pruned layers is refitted: itself, unless it has a better setting."""
        return self

    def suited(self, *, reconstructed: bool, tuned: bool) -> Criterion:
        """The criterion to use before what follows; reconstruction decides where both do."""
        if reconstructed:
            return self.before_reconstruction()
        return self.before_tuning() if tuned else self

    def settings_against(self, other: Criterion) -> dict[str, Any]:
        """The settings that differ from those of another instance."""
        before = other.settings()
        return {name: value for name, value in self.settings().items() if name not in before or value != before[name]}


class WeightCriterion(Criterion):
    """A criterion that reads nothing but a layer's weights, and so needs no data."""

    @abstractmethod
    def score(self, weight: Tensor) -> Tensor:
        """Score the filters of one layer.

        Args:
            weight: (filters, ...) float32: (out, in / groups, kh, kw) of a convolution, (out, in) of a linear layer.

        Returns:
            (filters,) finite numbers.
        """


class NormCriterion(Criterion):
    """A criterion that reads the learned scale of the norm behind a layer, and so needs no data."""

    @abstractmethod
    def score(self, scale: Tensor) -> Tensor:
        """Score the filters of one layer that a norm with a learned scale follows; other layers are not scored.

        Args:
            scale: (filters,) float32: γ of the BatchNorm, GroupNorm or LayerNorm.

        Returns:
            (filters,) finite numbers.
        """


class MapCriterion(Criterion):
    """A criterion that reads the maps of all filters of a layer, one sample at a time.

    Attributes:
        most_samples: Samples that are read at most; ``None`` for all.
    """

    most_samples: int | None = None

    @abstractmethod
    def score(self, maps: Tensor) -> Tensor:
        """Score the filters of one layer for each sample; the mean over the samples is the score.

        Args:
            maps: (samples, filters, h, w) float32 maps of some samples, on the model's device; w is 1 where maps are
                not images.

        Returns:
            (samples, filters) finite numbers. A sample's may not depend on the samples beside it.
        """


class GradientCriterion(Criterion):
    """A criterion that follows what a filter does to the network's output, to first order.

    The criterion names directions v in the space of the network's outputs z, one per sample and draw. The *effect* of
    a filter on a sample is Σ a · ∂(v·z)/∂a over its map a: by how much v·z would fall, to first order, without the
    filter. One forward pass and one backward pass per draw give the effects of all filters of all layers.

    Attributes:
        needs_labels: Whether :meth:`directions` reads labels.
        looks: How often effects are taken. 1: each filter is judged alone, in the whole network. More: after every
            look but the last some filters of each layer are switched off, those whose *joint* effect on top of what
            is off already is least, and the next look takes the effects in the network that is left. Five eighths
            go in equal steps; see :mod:`topocompress.scoring.joint`.
        settled: Whether BatchNorm statistics are re-estimated in the network that is left, before its effects and the
            change of its outputs are taken.
        alone: How much a filter's worth by itself counts besides the joint change when filters are switched off: its
            effect in the whole network and the L1 norm of its weights. At 0 large effects that happen to cancel may
            go; the larger it is, the nearer the order is to that of filters judged alone.
        norm: Share of the norm in that worth, 0..1.
        rebuilt: Whether a filter counts by what the others cannot say in its place, as they can once what reads them is
            refitted; ``looks`` and ``settled`` do not matter then. See :mod:`topocompress.scoring.rebuilt`.
    """

    needs_labels: bool = False
    looks: int = 1
    settled: bool = False
    alone: float = 0.0
    norm: float = 0.5
    rebuilt: bool = False

    @abstractmethod
    def directions(self, outputs: Tensor, labels: Tensor | None) -> Tensor:
        """The directions v in which outputs are watched.

        Args:
            outputs: (samples, classes) float32, or (samples, classes, h, w) averaged down to 8 × 8, on the CPU.
            labels: (samples,) class of each sample where all have one, else ``None``.

        Returns:
            (draws, *outputs.shape) finite numbers, as float32.
        """

    def score(self, effects: Tensor) -> Tensor:
        """Judge each filter alone: by default the root mean square of its effects.

        Args:
            effects: (draws · samples, filters) float64.

        Returns:
            (filters,) finite numbers.
        """
        return effects.square().mean(dim=0).sqrt()


class CloudCriterion(Criterion):
    """A criterion that reads feature clouds: the calibration samples as each filter sees them.

    Filters are scored in several processes, a few at a time. An instance must be picklable, and a filter's score may
    not depend on the filters beside it.

    Attributes:
        parts: Names of the summands where :meth:`score` returns (filters, parts); empty where it returns (filters,).
        map_size: Maps of more pixels a side are averaged down to so many where the user says nothing; ``None`` leaves
            them whole, which is the default: what is finer than a map's share is lost.
        per_class: Whether :meth:`score` is called for the samples of each class by themselves; the sum over the classes
            is the score. Needs labels.
    """

    parts: tuple[str, ...] = ()
    per_class: bool = False
    map_size: ClassVar[int | None] = None

    @property
    def needs_spread(self) -> bool:
        """Whether :meth:`score` needs to know something of the layer, which is found out first from some filters."""
        return False

    def first_look(self, clouds: NDArray[np.float32], *, device: str = "cpu") -> NDArray[np.float64]:
        """What is found out about some clouds in that round, (filters,): by default their mean pairwise distances."""
        from topocompress.topology import mean_distance

        return np.array([mean_distance(cloud, device=device) for cloud in clouds])

    def spread_of(self, found: NDArray[np.float64]) -> float:
        """What :meth:`score` is told of a layer, from the first look at up to 64 of its clouds: by default the mean."""
        return float(found.sum()) / len(found)

    def scale_taken(self, layer_spread: float | None) -> str:  # noqa: ARG002 - by default there is none
        """The scale at which a layer was looked at, if it follows from the layer; for the reader."""
        return ""

    @abstractmethod
    def score(
        self, clouds: NDArray[np.float32], *, layer_spread: float | None = None, device: str = "cpu"
    ) -> NDArray[np.float64]:
        """Score some filters of one layer.

        Args:
            clouds: (filters, samples, features) maps, flattened; read-only.
            layer_spread: What :meth:`spread_of` says of the layer; ``None`` unless ``needs_spread``.
            device: Where large products may run, as torch names it.

        Returns:
            (filters,) finite numbers, or (filters, parts) whose sum over parts is the score.
        """


KINDS = (WeightCriterion, NormCriterion, MapCriterion, CloudCriterion, GradientCriterion)
"""What a criterion may be a subclass of."""


def checked(
    layer: str, criterion: Criterion, raw: Tensor | NDArray[np.float64], filters: int, parts: tuple[str, ...] = ()
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """A layer's scores and their parts, if they are what the contract asks for.

    Args:
        layer: Name, for the message.
        criterion: What scored.
        raw: What :meth:`score` returned.
        filters: How many scores there must be.
        parts: Names of the parts, if any.

    Raises:
        CriterionError: Another shape, or NaN or infinity.
    """
    array = np.asarray(raw, dtype=np.float64)
    shape = (filters, len(parts)) if parts else (filters,)
    if array.shape != shape:
        raise CriterionError(
            f"criterion {criterion.name!r} returned shape {array.shape} for {layer}, expected {shape}",
            hint="score() returns one number per filter, or one per filter and part.",
        )
    if not np.isfinite(array).all():
        raise CriterionError(f"criterion {criterion.name!r} returned NaN or infinity for {layer}")
    if not parts:
        return array, {}
    return array.sum(axis=1), {part: array[:, index] for index, part in enumerate(parts)}


def whole(name: str, value: int, least: int) -> int:
    """A setting that is a whole number, if it is.

    Raises:
        CriterionError: It is not, or below ``least``.
    """
    if type(value) is not int or value < least:
        raise CriterionError(f"{name}={value!r}", hint=f"Give a whole number from {least} on.")
    return value
