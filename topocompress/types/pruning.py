"""The values that flow down the data path: frozen, keyword-only, inert.

Nothing here knows torch. Arrays are numpy; everything but :class:`Scores` and :class:`FilterView` is plain data that
JSON can carry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from topocompress.errors import CriterionError, PlanError

Direction = Literal["keep", "remove"]
"""What a *higher* score means: the filter should be kept, or removed."""


@dataclass(frozen=True, kw_only=True)
class LayerScores:
    """One layer's filter scores.

    Attributes:
        values: (filters,) float64, one finite score per output channel.
        parts: Named summands of ``values``, each (filters,); for ``betti`` the Betti numbers per dimension.
        dead: (filters,) bool, True where the filter's map is the same for every sample.
        scale: The scale at which the layer was looked at, such as ``quantile:0.083``, where it follows from the layer.
    """

    values: NDArray[np.float64]
    parts: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    dead: NDArray[np.bool_]
    scale: str = ""

    def __post_init__(self) -> None:
        if self.values.ndim != 1 or self.values.shape != self.dead.shape:
            raise CriterionError(
                f"a layer's scores must be one number per filter; got shape {self.values.shape} "
                f"for {self.dead.shape[0]} filters"
            )
        if not np.isfinite(self.values).all():
            raise CriterionError("a layer's scores must be finite; got NaN or infinity")


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a criterion says of every scored filter of one model.

    Attributes:
        criterion: Registered name of the criterion.
        higher: Whether a higher score speaks for keeping or for removing the filter.
        settings: The criterion's settings, as given.
        layers: Module name → scores, in the order in which the layers run.
        samples: Number of calibration samples N; 0 where none were used.
        model: Fingerprint of the scored model.
        run: How it was computed: ``passes`` over the samples and ``peak_cloud_bytes`` held at once.
        comparable: Whether scores of different layers are in one unit, a loss that can be weighed against a cost.
    """

    criterion: str
    higher: Direction
    settings: Mapping[str, Any]
    layers: Mapping[str, LayerScores]
    samples: int
    model: str
    run: Mapping[str, int] = field(default_factory=dict)
    comparable: bool = False


@dataclass(frozen=True, kw_only=True)
class ChannelGroup:
    """Output channels of several layers that can only be removed together.

    A *unit* is the smallest set that can go: one channel of the root, and in every coupled layer the channels that
    must go with it. With a grouped convolution a unit is one channel of each of its groups.

    Attributes:
        root: Name of the layer whose output channels count the group's width.
        width: Output channels of the root.
        units: units[u] = the root's channels in unit u. Together they are all channels, each once.
        filters: filters[layer][u] = the output channels of a coupled convolution or linear layer in unit u.
        readers: readers[layer][u] = how many *input* channels (or features) of a layer read unit u.
        part: Name of the part of the network in which the group was found; empty for the whole.
        coupled: Names of all modules that change when the group is pruned, norms included, for the reader.
        protected: Why the group must stay whole; empty if it may be pruned.
        products: products[u] = multiply-accumulates of products of matrices, as in attention, that go with unit u;
            empty where its channels go into none.
        also: Roots of further groups that lose the same channels, because the network takes a size of one from the
            other.
    """

    root: str
    width: int
    units: tuple[tuple[int, ...], ...]
    filters: Mapping[str, tuple[tuple[int, ...], ...]]
    readers: Mapping[str, tuple[int, ...]]
    part: str = ""
    coupled: tuple[str, ...] = ()
    protected: str = ""
    products: tuple[float, ...] = ()
    also: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """Multiply-accumulates of one layer for one sample, and what they scale with.

    Attributes:
        macs: Multiply-accumulates for one sample.
        outputs: Output channels.
        inputs: Input channels read by each filter's group in total (``in_channels``); 0 where the cost does not scale
            with them (depthwise convolutions).
        fixed: What of ``macs`` is done whatever goes: by the units of a recurrent layer among themselves.
    """

    macs: int
    outputs: int
    inputs: int
    fixed: int = 0


@dataclass(frozen=True, kw_only=True)
class GroupPlan:
    """What happens to one channel group.

    Attributes:
        root: The group's root layer.
        width: Its output channels before.
        remove: Root channels to remove, sorted, each once.
        dead: Those of ``remove`` that are constant over all samples.
        above: How many channels the rule asked for, before floor, ceiling and alignment.
        part: Name of the part of the network in which the group was found; empty for the whole.
        coupled: Names of all modules that change, norms included.
        filters: Convolution or linear layer → its output channels in the group, (before, after).
        readers: Convolution or linear layer → how many of its input channels (or features) come from the group,
            (before, after).
        protected: Why nothing may be removed; empty otherwise.
        also: Further layers whose output channels of the same numbers go.
    """

    root: str
    width: int
    remove: tuple[int, ...] = ()
    dead: tuple[int, ...] = ()
    above: int = 0
    part: str = ""
    coupled: tuple[str, ...] = ()
    filters: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    readers: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    protected: str = ""
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if tuple(sorted(set(self.remove))) != tuple(self.remove):
            raise PlanError(f"{self.root}: channels to remove must be sorted and unique")
        if self.remove and not 0 <= self.remove[0] <= self.remove[-1] < self.width:
            raise PlanError(f"{self.root}: a channel to remove lies outside 0..{self.width - 1}")
        if len(self.remove) >= self.width:
            raise PlanError(f"{self.root}: all {self.width} channels would be removed; at least one must stay")
        if self.remove and self.protected:
            raise PlanError(f"{self.root} is protected ({self.protected}) and cannot lose channels")
        if not set(self.dead) <= set(self.remove):
            raise PlanError(f"{self.root}: dead channels must be among those removed")
        if self.filters.get(self.root, (self.width, self.kept)) != (self.width, self.kept):
            raise PlanError(f"{self.root}: its widths are not {self.width} before and {self.kept} after")

    @property
    def kept(self) -> int:
        """Root channels that stay."""
        return self.width - len(self.remove)


@dataclass(frozen=True, kw_only=True)
class PruningPlan:
    """Which channels of which group go. Inert: applying it is :func:`topocompress.apply`.

    Attributes:
        model: Fingerprint of the model the plan fits.
        rule: The rule and its limits, as given, for example ``{"max_betti": 300, "max_ratio": 0.5}``.
        criterion: Name of the criterion whose scores were used.
        groups: One entry per channel group, protected ones included.
        macs_before: Multiply-accumulates for one sample before.
        macs_after: The same after the plan, predicted from the widths.
    """

    model: str
    rule: Mapping[str, Any]
    criterion: str
    groups: tuple[GroupPlan, ...]
    macs_before: int
    macs_after: int

    @property
    def entries(self) -> tuple[GroupPlan, ...]:
        """One entry for every root, those of ``also`` too."""
        return tuple(replace(group, root=root, also=()) for group in self.groups for root in (group.root, *group.also))

    @property
    def removed(self) -> int:
        """Root channels removed in total."""
        return sum(len(group.remove) for group in self.groups)


@dataclass(frozen=True, kw_only=True)
class FilterView:
    """The feature cloud of one filter: its persistence, its Betti curves and a view of it in the plane.

    Lengths are in the units of the maps; with a ``knn`` scale those of ``epsilon``, ``diagrams`` and ``grid`` are hops.

    Attributes:
        layer: Module name.
        filter: Output channel of the layer.
        samples: Points of the cloud, N.
        scale: How ε was chosen.
        maps: Where maps were averaged or projected: ``map_size``, ``sketch``.
        epsilon: ε, rounded to float32, in which distances are compared.
        mean_distance: Mean distance over the pairs of different samples.
        betti: Dimension → Betti number at ε.
        diagrams: Dimension → (bars, 2) float64 birth and death; ``inf`` where the bar never ends.
        grid: (steps,) float64, increasing: 0, ε, and every scale at which a bar begins or ends.
        curves: Dimension → (steps,) int64 Betti numbers from each place of ``grid`` up to the next.
        view: (samples, 2) float64, the first two principal components of the maps.
        explained: Share of the variance, 0..1, that each of the two carries.
        labels: (samples,) int64 where every sample has a label; else ``None``.
        edges: (edges, 2) int32, the pairs that ε joins, smaller index first.
        dead: Whether the map is the same for every sample, up to rounding.
    """

    layer: str
    filter: int
    samples: int
    scale: str
    maps: Mapping[str, int]
    epsilon: float
    mean_distance: float
    betti: Mapping[int, int]
    diagrams: Mapping[int, NDArray[np.float64]]
    grid: NDArray[np.float64]
    curves: Mapping[int, NDArray[np.int64]]
    view: NDArray[np.float64]
    explained: tuple[float, float]
    labels: NDArray[np.int64] | None
    edges: NDArray[np.int32]
    dead: bool

    @property
    def unit(self) -> str:
        """``hops`` with a ``knn`` scale, else ``distance``."""
        return "hops" if self.scale.startswith("knn") else "distance"

    def longest(self, dimension: int) -> tuple[float, float] | None:
        """Birth and death of the longest bar that ends; ``None`` where there is none."""
        bars = self.diagrams[dimension]
        ended = bars[np.isfinite(bars[:, 1])]
        if not len(ended):
            return None
        birth, death = ended[np.argmax(ended[:, 1] - ended[:, 0])]
        return float(birth), float(death)
