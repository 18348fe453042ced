"""Betti numbers of the classes as they pass through the layers of a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from topocompress.errors import TopologyError
from topocompress.topology.betti import betti_numbers
from topocompress.topology.graphs import neighbourhood_graph
from topocompress.topology.scale import Scale

if TYPE_CHECKING:
    from torch import Tensor, nn

INPUT = "input"


@dataclass(frozen=True, kw_only=True)
class LayerBetti:
    """Betti numbers of one layer.

    Attributes:
        layer: Its name; ``input`` for the samples themselves.
        betti: Class → Betti numbers, one per dimension asked for.
    """

    layer: str
    betti: dict[int, tuple[int, ...]]


def class_bettis(
    points: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    *,
    neighbours: int = 14,
    hops: int = 2,
    dimensions: Sequence[int] = (0, 1),
) -> dict[int, tuple[int, ...]]:
    """Betti numbers of each class of a labelled cloud, on its own graph of nearest neighbours.

    Args:
        points: (samples, features) finite floats.
        labels: (samples,) classes.
        neighbours: k; a class needs more samples than that.
        hops: Samples at most so many hops apart count as joined.
        dimensions: Homology dimensions, each 0, 1 or 2.

    Raises:
        TopologyError: A class with k samples or fewer, NaN or infinity, or a dimension that is not supported.
    """
    scale = Scale("knn", (float(neighbours), float(hops)))
    return {
        int(label): betti_numbers(neighbourhood_graph(points[labels == label], scale).rows, dimensions)
        for label in np.unique(labels)
    }


def layer_bettis(
    model: nn.Module,
    inputs: Tensor,
    labels: Any,
    *,
    layers: Sequence[str] | None = None,
    neighbours: int = 14,
    hops: int = 2,
    dimensions: Sequence[int] = (0, 1),
) -> list[LayerBetti]:
    """Betti numbers of each class at the input and after each layer, its norm and its activation.

    The method of Naitzat, Zhitnikov & Lim, JMLR 21(184), 2020, section 6.3: distances are hops in the graph of the k
    nearest neighbours, and 2 hops or fewer count as joined (their ε = 2.5; k = 14 for their planar set, 35 for those in
    space).

    Args:
        model: The network; left as it was.
        inputs: (samples, ...) all samples, as the network takes them.
        labels: (samples,) classes.
        layers: Names of the layers to look at; every convolution and linear layer if ``None``.
        neighbours: k; each class needs more samples than that.
        hops: Samples at most so many hops apart count as joined.
        dimensions: Homology dimensions, each 0, 1 or 2.

    Returns:
        The input, then the layers in the order in which they run.

    Raises:
        TopologyError: Labels and samples differ in number, an unknown layer, a class with k samples or fewer, or NaN or
            infinity in a layer.
        ModelError: The network does not accept the samples.
    """
    # Processes that score clouds import this package and must not wait for torch.
    from torch import nn

    from topocompress.network.hook_points import hooked

    classes = np.asarray(labels)
    if classes.shape != (len(inputs),):
        raise TopologyError(f"{len(inputs)} samples with labels of shape {classes.shape}")
    modules = dict(model.named_modules())
    chosen = [name for name, module in modules.items() if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear))]
    if layers is not None and (unknown := sorted(set(layers) - set(modules))):
        raise TopologyError(f"the network has no layer {unknown[0]}", hint=f"It has {', '.join(chosen[:5])}, ...")
    found: dict[str, NDArray[Any]] = {}
    order: list[str] = []
    with hooked(
        model,
        chosen if layers is None else list(layers),
        lambda layer, maps: found.__setitem__(layer, maps.detach().flatten(1).cpu().numpy()),
        order=order,
        whole=True,
    ) as run:
        run(inputs)
    points = {INPUT: inputs.detach().flatten(1).cpu().numpy(), **{name: found[name] for name in dict.fromkeys(order)}}
    return [
        LayerBetti(
            layer=name,
            betti=class_bettis(cloud, classes, neighbours=neighbours, hops=hops, dimensions=dimensions),
        )
        for name, cloud in points.items()
    ]
