"""Made-up channel groups, costs and scores: planning needs no network."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from topocompress.types import ChannelGroup, LayerCost, LayerScores, Scores


def chain(width, *, root="conv", reader="next", size=1, **changes):
    """A group of ``width`` channels in units of ``size``, as a convolution of ``size`` groups has them."""
    units = tuple(tuple(range(u, width, width // size)) for u in range(width // size))
    settings = {
        "root": root,
        "width": width,
        "units": units,
        "filters": {root: units},
        "readers": {reader: (size,) * len(units)},
        "coupled": (root, reader),
    }
    return ChannelGroup(**{**settings, **changes})


def layer(values, dead=()):
    values = np.asarray(values, dtype=np.float64)
    flags = np.zeros(len(values), dtype=np.bool_)
    flags[list(dead)] = True
    return LayerScores(values=values, dead=flags)


def scores(layers, *, criterion="betti", higher="remove", samples=1000):
    return Scores(criterion=criterion, higher=higher, settings={}, layers=layers, samples=samples, model="sha256:0")


@dataclass(frozen=True)
class Net:
    """A random network: layers in a row, some with a twin coupled to them, read by a classifier.

    ``sizes[layer]`` = (outputs, inputs, pixels); inputs are 0 for a depthwise layer, that costs 9 per output, pixel.
    """

    groups: tuple[ChannelGroup, ...]
    scores: Scores
    sizes: dict[str, tuple[int, int, int]]

    @property
    def costs(self):
        return {
            name: LayerCost(macs=pixels * outputs * (inputs or 9), outputs=outputs, inputs=inputs)
            for name, (outputs, inputs, pixels) in self.sizes.items()
        }

    def recount(self, plan):
        """Multiply-accumulates after a plan, counted one filter and one input at a time."""
        removed = {entry.root: set(entry.remove) for entry in plan.groups}
        total = 0
        for name, (outputs, inputs, pixels) in self.sizes.items():
            gone, unread = set(), 0
            for group in self.groups:
                for u, unit in enumerate(group.units):
                    if set(unit) <= removed[group.root]:
                        gone |= set(group.filters.get(name, [()] * len(group.units))[u])
                        unread += group.readers.get(name, [0] * len(group.units))[u]
            for _filter in set(range(outputs)) - gone:
                total += pixels * (sum(1 for _ in range(inputs - unread)) if inputs else 9)
        return total


@st.composite
def nets(draw, higher="remove", depth=4):
    groups, sizes, layers = [], {}, {}
    before, spread = 3, 1
    for place in range(draw(st.integers(1, depth))):
        size = draw(st.sampled_from((1, 1, 1, 2, 4)))
        width = size * draw(st.integers(2, 40 // size))
        root, pixels = f"conv{place}", draw(st.sampled_from((1, 16, 49)))
        group = chain(width, root=root, size=size)
        names = {root: before * spread}
        if draw(st.booleans()):
            names[f"twin{place}"] = draw(st.sampled_from((0, before * spread)))
        filters = dict.fromkeys(names, group.units)
        sizes |= {name: (width, inputs, pixels) for name, inputs in names.items()}
        if place:
            previous = groups[-1]
            reads = {
                n: (spread * len(previous.units[0]),) * len(previous.units) for n, inputs in names.items() if inputs
            }
            groups[-1] = ChannelGroup(**{**vars(previous), "readers": reads})
        groups.append(ChannelGroup(**{**vars(group), "filters": filters, "readers": {}}))
        for name in names:
            values = draw(st.lists(st.integers(0, 30), min_size=width, max_size=width))
            dead = draw(st.sets(st.integers(0, width - 1), max_size=max(1, width // 4)))
            layers[name] = layer(values, dead)
        before, spread = width, draw(st.sampled_from((1, 4)))
    last = groups[-1]
    reads = {"head": (spread * len(last.units[0]),) * len(last.units)}
    groups[-1] = ChannelGroup(**{**vars(last), "readers": reads})
    sizes["head"] = (10, before * spread, 1)
    groups.append(chain(10, root="head", readers={}, protected="feeds the model's output"))
    return Net(groups=tuple(groups), scores=scores(layers, higher=higher), sizes=sizes)


def removed(plan):
    return {entry.root: set(entry.remove) for entry in plan.groups}


def group(root, width=4, size=1, **changes):
    """A made-up group of one layer, ``width`` channels in units of ``size``."""
    return chain(width, root=root, size=size, coupled=(root,), **changes)
