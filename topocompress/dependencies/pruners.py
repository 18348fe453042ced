"""torch-pruning's dependency graph, with ways of its own to prune what that does not know or gets wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch_pruning as tp
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch_pruning._helpers import _HybridIndex
from torch_pruning.dependency import Dependency, Node
from torch_pruning.dependency.index_mapping import update_index_mapping
from torch_pruning.ops import OPTYPE

from topocompress.activation.module import TopologicalActivation
from topocompress.dependencies.layouts import Layout
from topocompress.dependencies.loose import ComputedNorms, GroupNorms, InstanceNorms, LooseParameters, link_shared
from topocompress.dependencies.operations import Operations
from topocompress.dependencies.origins import Origins
from topocompress.dependencies.parts import Parted, Within
from topocompress.network.layers import input_weights, separates
from topocompress.network.modes import EachAlone

_OPERATIONS = (tp.ops._ConcatOp, tp.ops._SplitOp, tp.ops._ElementWiseOp, tp.ops._ReshapeOp)


class Graph(tp.DependencyGraph):  # type: ignore[misc]
    """A dependency graph that prunes convolutions of any kind, and what recurrent layers read.

    Args:
        origins: Notes which module computes what.

    Attributes:
        counted: Steps of the first of the runs that are followed.
        outputs: Steps whose results are outputs.
        placed: Parameters with several axes of which that of the channels is known.
        layouts: Node → where channels lie in what it computes.
    """

    def __init__(self, origins: Origins | None = None) -> None:
        super().__init__()
        self.origins: dict[Any, str] = origins.modules if origins else {}
        self.counted: set[Any] = origins.first if origins else set()
        self.outputs: set[Any] = origins.outputs if origins else set()
        self._separate: dict[nn.Module, bool] = {}
        self._steps: dict[Any, Any] = {}
        self.placed: set[nn.Parameter] = set()
        self.layouts: dict[Node, Layout | None] = {}
        self._channelwise, self._parted = SeparateConvolutions(), Parted()
        self.REGISTERED_PRUNERS |= {
            OPTYPE.CONV: Convolutions(),
            OPTYPE.IN: InstanceNorms(),
            OPTYPE.GN: GroupNorms(),
            OPTYPE.PARAMETER: LooseParameters(),
            "separate": self._channelwise,
            "parted": self._parted,
        }
        for kind in (nn.LSTM, nn.GRU, nn.RNN):
            self.register_customized_layer(kind, Recurrent())
        self.register_customized_layer(TopologicalActivation, Amplitudes())

    def _build_dependency(self, module2node: dict[Any, Node]) -> None:
        operations = Operations(module2node, self._steps)
        self.placed = set(operations.places.axes)
        self.layouts = {node: operations.places.layout(node) for node in module2node.values()}
        operations.count_parts()
        super()._build_dependency(module2node)
        operations.map_channels()
        operations.part_strangers()

    def _trace_computational_graph(
        self, module2node: Any, output: Any, gradfn2module: Any, reused: Any, visited: Any
    ) -> dict[Any, Node]:
        self._steps = gradfn2module
        found: dict[Any, Node] = super()._trace_computational_graph(module2node, output, gradfn2module, reused, visited)
        return found

    def get_pruner_of_module(self, module: nn.Module) -> tp.BasePruningFunc:
        """What prunes a module; a convolution with groups of single channels stays one while these go."""
        if hasattr(module, "parts") and isinstance(module, _OPERATIONS):
            return self._parted
        if not isinstance(module, _ConvNd):
            return super().get_pruner_of_module(module)
        if self._separate.setdefault(module, separates(module)):
            return self._channelwise
        return self.REGISTERED_PRUNERS[OPTYPE.CONV]

    def follow(self, model: nn.Module, forward: Callable[[nn.Module, Any], list[Tensor]]) -> Graph:
        """Build the graph from what ``forward`` computes.

        A module of torch's with one number for all channels is left to its operations: it may be called for several
        layers, whose channels have nothing to do with each other.
        """
        single = (nn.PReLU, TopologicalActivation)
        self.IGNORED_LAYERS_IN_TRACING += [
            module
            for module in model.modules()
            if isinstance(module, single) and self.get_pruner_of_module(module).get_out_channels(module) is None
        ]
        with ComputedNorms(), EachAlone():
            self.build_dependency(model, example_inputs=(), forward_fn=forward, verbose=False)
        self._link_separate_channels()
        link_shared(self)
        return self

    def get_pruning_group(
        self, module: nn.Module, pruning_fn: Callable[..., Any], idxs: Sequence[int]
    ) -> tp.dependency.Group:
        """What goes with some channels; every channel is followed once, and not along every route there is.

        Args:
            module: Where they are.
            pruning_fn: What removes them there.
            idxs: Which.
        """
        update_index_mapping(self)
        root = self.module2node[module]
        start = Dependency(trigger=pruning_fn, handler=pruning_fn, source=root, target=root)
        found: dict[tuple[Node, Callable[..., Any]], tuple[Dependency, set[int]]] = {}
        waiting = [(start, [_HybridIndex(channel, channel) for channel in idxs])]
        while waiting:
            dep, arriving = waiting.pop()
            known = found.setdefault((dep.target, dep.handler), (dep, set()))[1]
            new = [each for each in arriving if each.idx not in known]
            known.update(each.idx for each in new)
            for onward in dep.target.dependencies if new else ():
                if onward.is_triggered_by(dep.handler):
                    there = new
                    for mapping in onward.index_mapping:
                        there = there if mapping is None else mapping(there)
                    if there:
                        waiting.append((onward, there))
        group = tp.dependency.Group()
        group._DG = self
        for dep, channels in found.values():
            group.add_dep(dep, sorted(channels))
        return group

    def check_pruning_group(self, group: tp.dependency.Group) -> bool:
        """Whether something stays of every module; operations have no channels of their own."""
        for dep, idxs in group:
            module = dep.target.module
            if hasattr(module, "parts") and isinstance(module, _OPERATIONS):
                continue
            out, into = self.is_out_channel_pruning_fn(dep.handler), self.is_in_channel_pruning_fn(dep.handler)
            widths = [self.get_out_channels(module)] * out + [self.get_in_channels(module)] * into
            if any(width is not None and width <= len(idxs) for width in widths):
                return False
        return True

    def _link_separate_channels(self) -> None:
        """Let what goes into a group of a single channel go together with what comes out of it."""
        inside, outside = self._channelwise.prune_in_channels, self._channelwise.prune_out_channels
        for node in self.module2node.values():
            if isinstance(node.module, _ConvNd) and self._separate.get(node.module):
                several = (
                    node.module.in_channels // node.module.groups,
                    node.module.out_channels // node.module.groups,
                )
                for trigger, handler, sizes in ((inside, outside, several), (outside, inside, several[::-1])):
                    link = Dependency(trigger=trigger, handler=handler, source=node, target=node)
                    link.index_mapping[0] = Within(*sizes)
                    node.dependencies.append(link)


class Convolutions(tp.BasePruningFunc):  # type: ignore[misc]
    """Convolutions of any kind; each group of one loses as many channels as the next, at the same places."""

    def prune_out_channels(self, layer: _ConvNd, idxs: list[int]) -> _ConvNd:
        """Remove filters."""
        kept = _rest(layer.out_channels, idxs)
        if isinstance(layer, _ConvTransposeNd):  # weights are (inputs, outputs of a group, ...)
            layer.weight = self._prune_parameter_and_grad(layer.weight, kept[: len(kept) // layer.groups], 1)
        else:
            layer.weight = self._prune_parameter_and_grad(layer.weight, kept, 0)
        if layer.bias is not None:
            layer.bias = self._prune_parameter_and_grad(layer.bias, kept, 0)
        layer.out_channels = len(kept)
        return layer

    def prune_in_channels(self, layer: _ConvNd, idxs: list[int]) -> _ConvNd:
        """Remove what is read."""
        kept = _rest(layer.in_channels, idxs)
        if isinstance(layer, _ConvTransposeNd):
            layer.weight = self._prune_parameter_and_grad(layer.weight, kept, 0)
        else:
            layer.weight = self._prune_parameter_and_grad(layer.weight, kept[: len(kept) // layer.groups], 1)
        layer.in_channels = len(kept)
        return layer

    def get_out_channels(self, layer: _ConvNd) -> int:
        """How many filters are left."""
        return layer.out_channels

    def get_in_channels(self, layer: _ConvNd) -> int:
        """How many channels are still read."""
        return layer.in_channels

    def get_in_channel_groups(self, layer: _ConvNd) -> int:
        """Groups of channels."""
        return layer.groups

    get_out_channel_groups = get_in_channel_groups


class SeparateConvolutions(Convolutions):
    """Convolutions of which each group has a single input or output: groups go as a whole."""

    def prune_out_channels(self, layer: _ConvNd, idxs: list[int]) -> _ConvNd:
        """Remove filters, and the groups that are counted by them."""
        kept = _rest(layer.out_channels, idxs)
        if not isinstance(layer, _ConvTransposeNd):
            layer.weight = self._prune_parameter_and_grad(layer.weight, kept, 0)
        if layer.bias is not None:
            layer.bias = self._prune_parameter_and_grad(layer.bias, kept, 0)
        if layer.groups == layer.out_channels:
            layer.groups = len(kept)
        layer.out_channels = len(kept)
        return layer

    def prune_in_channels(self, layer: _ConvNd, idxs: list[int]) -> _ConvNd:
        """Remove what is read, and the groups that are counted by it."""
        kept = _rest(layer.in_channels, idxs)
        if isinstance(layer, _ConvTransposeNd):
            layer.weight = self._prune_parameter_and_grad(layer.weight, kept, 0)
        if layer.groups == layer.in_channels:
            layer.groups = len(kept)
        layer.in_channels = len(kept)
        return layer


class Recurrent(tp.BasePruningFunc):  # type: ignore[misc]
    """Recurrent layers read fewer channels; their own units stay."""

    def prune_in_channels(self, layer: nn.RNNBase, idxs: list[int]) -> nn.RNNBase:
        """Remove what the first of its layers reads."""
        kept = _rest(layer.input_size, idxs)
        for name, weight in input_weights(layer).items():
            setattr(layer, name, self._prune_parameter_and_grad(weight, kept, 1))
        layer.input_size = len(kept)
        return layer

    def prune_out_channels(self, layer: nn.RNNBase, _idxs: list[int]) -> nn.RNNBase:
        """Not possible.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"the units of a {type(layer).__name__} cannot be removed")

    def get_in_channels(self, layer: nn.RNNBase) -> int:
        """How many channels are still read."""
        return layer.input_size

    def get_out_channels(self, layer: nn.RNNBase) -> int:
        """How many numbers it gives at each step."""
        return (layer.proj_size or layer.hidden_size) * (2 if layer.bidirectional else 1)


class Amplitudes(tp.BasePruningFunc):  # type: ignore[misc]
    """The amplitudes of a topological activation go with its channels."""

    def prune_out_channels(self, layer: TopologicalActivation, idxs: list[int]) -> TopologicalActivation:
        """Remove channels on either side."""
        if layer.channels > 1:
            layer.amplitude = self._prune_parameter_and_grad(layer.amplitude, _rest(layer.channels, idxs), 0)
        return layer

    prune_in_channels = prune_out_channels

    def get_out_channels(self, layer: TopologicalActivation) -> int | None:
        """How many channels have an amplitude of their own; ``None`` if all share one."""
        return layer.channels if layer.channels > 1 else None

    get_in_channels = get_out_channels


def _rest(width: int, gone: Sequence[int]) -> list[int]:
    return sorted(set(range(width)) - set(gone))
