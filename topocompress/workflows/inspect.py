"""One filter looked at closely: :func:`inspect_filter`, the persistence of its feature cloud and a view of it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path
from torch import nn

from topocompress.criteria import Betti
from topocompress.errors import DataError, ModelError, TopologyError
from topocompress.network.capture import Batches, Maps, Slice, collect_clouds, map_shapes
from topocompress.network.layers import LAYERS, width_of
from topocompress.network.memory_layout import fast_layout
from topocompress.runtime.arguments import checked
from topocompress.runtime.progress import Progress, silent
from topocompress.runtime.resources import Resources
from topocompress.scoring.clouds import looked_at
from topocompress.scoring.workers import is_dead
from topocompress.topology import (
    DEFAULT_SCALE,
    Scale,
    mean_distance,
    neighbourhood_graph,
    pairwise_distances,
    persistence_diagrams,
    unpack,
)
from topocompress.topology.components import as_quantile, first_look, of_layer
from topocompress.types import FilterView

_NAMED = 8
_HUGE = 1e38  # finite in float32, and so is the next number


@checked
def inspect_filter(
    model: nn.Module,
    batches: Batches,
    *,
    layer: str,
    filter_index: int,
    scale: str = DEFAULT_SCALE,
    dimensions: Sequence[int] = (0, 1),
    maps: Maps | None = None,
    memory: int | None = None,
    progress: Progress = silent,
) -> FilterView:
    """Look closely at one filter: the whole Vietoris–Rips persistence of its feature cloud, and the cloud in the plane.

    The Betti numbers at ε are those by which the criterion ``betti`` judges the filter. For 1,000 samples that
    takes about a second; with dimension 2 a minute.

    Args:
        model: The network; left as it was.
        batches: Samples (images (B, C, H, W), labels (B,)), re-iterable; a negative label means there is none.
        layer: Name of a convolution or linear layer.
        filter_index: Output channel of it.
        scale: How ε is chosen; see :class:`topocompress.topology.Scale`. ``components`` and ``layer`` need the clouds
            of some other filters of the layer; with ``knn`` the filtration is by hops in the neighbour graph.
        dimensions: Homology dimensions, among 0, 1 and 2.
        maps: How maps become points; by default as ``betti`` has it.
        memory: Bytes that clouds may take at one time, by default half of what is free; matters for the ``layer``
            scale alone.
        progress: Called as ``progress(step, done, total)``.

    Raises:
        ModelError: There is no such layer or filter, the layer does not run, or its maps hold NaN or infinity.
        DataError: Fewer than two samples, NaN among them, or batches that can be iterated only once.
        TopologyError: The scale or a dimension is not supported.
    """
    chosen = Scale.parse(scale)
    wanted = tuple(sorted(set(dimensions)))
    if not wanted or not set(wanted) <= {0, 1, 2}:
        raise TopologyError(f"homology dimensions {tuple(dimensions)}", hint="Choose among 0, 1 and 2.")
    check_filter(model, layer, filter_index)
    maps = Maps(size=Betti.map_size) if maps is None else maps
    samples, labels = _count(batches)
    features, layout = _features(model, layer, batches, maps)

    others = looked_at(width_of(model.get_submodule(layer), out=True)) if chosen.of_layer else []
    together = max(1, Resources(memory=memory).bytes // (4 * samples * features))
    channels = sorted({filter_index, *others})
    parts = [channels[start : start + together] for start in range(0, len(channels), together)]
    ran = 0

    def on_batch(count: int) -> None:
        nonlocal ran
        ran += count
        progress("running samples", ran, samples * len(parts))

    cloud, looks = np.empty((0, 0), dtype=np.float32), []
    for part in parts:
        slices = [Slice(layer=layer, start=number, stop=number + 1, features=features) for number in part]
        clouds = collect_clouds(model, slices, batches, samples, maps=maps, layout=layout, on_batch=on_batch)
        if filter_index in part:
            cloud = clouds[part.index(filter_index)][0].copy()
        looks += [first_look(one[0], chosen) for number, one in zip(part, clouds, strict=True) if number in others]
        del clouds  # else it would still be held while the next part is collected

    progress("computing persistence", 0, 1)
    distances = pairwise_distances(cloud)
    number = of_layer(chosen, looks) if looks else None
    filtration, epsilon, last = _filtration(cloud, distances, chosen, number)
    found = persistence_diagrams(filtration, wanted[-1], threshold=last)
    diagrams = {dimension: found[dimension] for dimension in wanted}
    grid, curves = _curves(diagrams, epsilon)
    view, explained = _principal(cloud)
    progress("computing persistence", 1, 1)
    here = int(np.searchsorted(grid, epsilon))
    joined = np.triu(filtration <= min(epsilon, last), 1)  # beyond the end no path joins them
    return FilterView(
        layer=layer,
        filter=filter_index,
        samples=samples,
        scale=str(chosen) if number is None or chosen.kind == "layer" else f"{chosen} = {as_quantile(chosen, number)}",
        maps=maps.settings(),
        epsilon=epsilon,
        mean_distance=mean_distance(cloud),
        betti={dimension: int(curve[here]) for dimension, curve in curves.items()},
        diagrams=diagrams,
        grid=grid,
        curves=curves,
        view=view,
        explained=explained,
        labels=labels,
        edges=np.argwhere(joined).astype(np.int32),
        dead=bool(is_dead(cloud)),
    )


def check_filter(model: nn.Module, layer: str, filter_index: int) -> None:
    """Make sure that a layer has a filter.

    Raises:
        ModelError: There is no such layer, or it has no such filter; the message says which there are.
    """
    modules = dict(model.named_modules())
    layers = [name for name, module in modules.items() if isinstance(module, LAYERS)]
    if layer not in layers:
        what = f"the model has no layer {layer!r}"
        if layer in modules:
            what = f"{layer!r} is a {type(modules[layer]).__name__}; only convolutions and linear layers have filters"
        inside = [name for name in layers if name.startswith(f"{layer}.")]
        near = inside or difflib.get_close_matches(layer, layers)
        more = f" and {len(layers) - _NAMED} more" if len(layers) > _NAMED else ""
        there = f"Its layers: {', '.join(layers[:_NAMED])}{more}." if layers else "It has no such layer at all."
        raise ModelError(what, hint=f"Did you mean {' or '.join(near[:3])}?" if near else there)
    width = width_of(modules[layer], out=True)
    if not 0 <= filter_index < width:
        raise ModelError(
            f"{layer} has no filter {filter_index}: it has {width} filters", hint=f"Choose among 0..{width - 1}."
        )


def _count(batches: Batches) -> tuple[int, NDArray[np.int64] | None]:
    """The number of samples, and their labels if each has one."""
    sizes, found = [], []
    for images, labels in batches:
        sizes.append(len(images))
        found.append(np.asarray(torch.as_tensor(labels)))
    samples = sum(sizes)
    if samples < 2:
        raise DataError(f"topology needs at least 2 calibration samples, got {samples}", hint="Raise --samples.")
    if any(labels.shape != (size,) for labels, size in zip(found, sizes, strict=True)):
        return samples, None
    together = np.concatenate(found).astype(np.int64)
    return samples, together if (together >= 0).all() else None


def _features(model: nn.Module, layer: str, batches: Batches, maps: Maps) -> tuple[int, torch.memory_format]:
    first, _ = next(iter(batches), (None, None))
    if first is None:
        raise DataError("the batches can be iterated only once", hint="Give a DataLoader or a list, not a generator.")
    shapes = map_shapes(model, [layer], first[:1], maps)
    if layer not in shapes:
        raise ModelError(f"the forward pass does not run {layer}", hint="Choose a layer that it runs.")
    return shapes[layer][1], fast_layout(model, first[:1])


def _graph(cloud: NDArray[np.float32], scale: Scale, number: float | None = None) -> tuple[NDArray[np.bool_], float]:
    """(samples, samples) adjacency of the ε-graph, by the engine that scores filters; and ε, in hops for ``knn``."""
    graph = neighbourhood_graph(cloud, scale, layer=number)
    joined = unpack(graph.rows)
    np.fill_diagonal(joined, False)
    return joined, graph.epsilon


def _filtration(
    cloud: NDArray[np.float32], distances: NDArray[np.float32], scale: Scale, number: float | None
) -> tuple[NDArray[np.float32], float, float]:
    """(samples, samples) scales at which two samples are joined, ε, and where the filtration ends."""
    joined, epsilon = _graph(cloud, scale, number)
    if scale.kind != "knn":
        # Rounding a distance or ε to float32 must not move a pair to the other side of ε.
        here = np.float32(min(epsilon, _HUGE))
        beyond = np.maximum(distances, np.nextafter(here, np.float32(np.inf)))
        filtration = np.where(joined, np.minimum(distances, here), beyond)
        np.fill_diagonal(filtration, 0)
        return filtration, float(here), math.inf
    linked, _ = _graph(cloud, Scale("knn", (scale.values[0], 1.0)))
    apart = shortest_path(csr_array(linked), directed=False, unweighted=True)
    last = float(apart[np.isfinite(apart)].max())
    apart[np.isinf(apart)] = last + 1
    return apart.astype(np.float32), epsilon, last


def _curves(
    diagrams: Mapping[int, NDArray[np.float64]], epsilon: float
) -> tuple[NDArray[np.float64], dict[int, NDArray[np.int64]]]:
    bars = np.concatenate([*diagrams.values(), [[0.0, epsilon]]])
    grid = np.unique(bars[np.isfinite(bars)])
    curves = {}
    for dimension, diagram in diagrams.items():  # a bar counts from its birth until just before its death
        born = np.searchsorted(np.sort(diagram[:, 0]), grid, side="right")
        curves[dimension] = (born - np.searchsorted(np.sort(diagram[:, 1]), grid, side="right")).astype(np.int64)
    return grid, curves


def _principal(cloud: NDArray[np.float32]) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """(samples, 2) principal components and their shares of the variance; of two small products the smaller one."""
    samples, features = cloud.shape
    centred = cloud.astype(np.float64)
    centred -= centred.mean(axis=0)
    product = centred @ centred.T if samples <= features else centred.T @ centred
    size = len(product)
    values, vectors = eigh(product, subset_by_index=(max(0, size - 2), size - 1))
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    view = np.zeros((samples, 2))
    view[:, : len(values)] = vectors * np.sqrt(values) if samples <= features else centred @ vectors
    view *= np.where(view[np.abs(view).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)  # the sign of an axis is arbitrary
    total = float(np.trace(product))
    shares = [float(value) / total if total else 0.0 for value in values] + [0.0]
    return view, (shares[0], shares[1])
