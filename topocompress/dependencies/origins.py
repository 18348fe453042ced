"""Which module computed a step in the trace of gradients, and sizes kept on modules that follow what is removed."""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch_pruning.ops import OPTYPE, module2type

from topocompress.dependencies.heads import HeadAttention
from topocompress.dependencies.layouts import Layout, channel_axes, kind_of, orders
from topocompress.dependencies.parts import Parts, parts_of
from topocompress.dependencies.steps import shape_of
from topocompress.network.functions import FunctionCalls
from topocompress.network.hook_points import tensors_in

_COUNTS = re.compile(r"num|heads|^h$|n_head|count")
_OTHERWISE = re.compile(r"image|img|patch|window|seq|class|kernel|stride|depth|layers|resolution")
"""Attributes that count heads, and those that have nothing to do with channels, by their names."""


class Origins(FunctionCalls):
    """Notes, while a network runs, which of its modules computes what.

    Attributes:
        modules: Step in the trace of gradients → name of the innermost module that was running.
        first: The steps of the first run that was watched.
        outputs: The steps that the network's outputs come from, in all runs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.modules: dict[Any, str] = {}
        self.first: set[Any] = set()
        self.outputs: set[Any] = set()
        self._running = [""]

    @contextlib.contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """In this block a network is watched."""
        with contextlib.ExitStack() as stack:
            for name, module in model.named_modules():
                if name:
                    stack.callback(module.register_forward_pre_hook(self._enter(name)).remove)
                    stack.callback(module.register_forward_hook(lambda *_: self._leave()).remove)
            stack.enter_context(self)
            yield

    def _call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        found = func(*args, **kwargs)
        if getattr(func, "__name__", "") != "__get__":
            for tensor in tensors_in((found,)):
                if tensor.grad_fn is not None:
                    self.modules.setdefault(tensor.grad_fn, self._running[-1])
        return found

    def _enter(self, name: str) -> Callable[..., None]:
        return lambda *_: self._running.append(name)

    def _leave(self) -> None:
        self._running.pop()


class Sizes:
    """Sizes that views and splits take from attributes of modules: they follow the channels that are removed.

    A view to (batch, tokens, heads, d) or to (batch, width) may be written with numbers that a module keeps. They are
    set where the module that views has attributes of the very size. A split into parts of one size may be written with
    that size or with the width of all parts, one of several sizes with a list of them.
    """

    def __init__(self) -> None:
        self._gone: defaultdict[tuple[str, Any], int] = defaultdict(int)
        self._changes: defaultdict[str, dict[tuple[int, bool], int]] = defaultdict(dict)
        self._splits: dict[Any, tuple[str, Parts, list[int]]] = {}

    def note(self, prefix: str, graph: Any, group: Any) -> None:
        """Take down what is about to be removed.

        Args:
            prefix: Name of the part of the network that the graph is of.
            graph: The graph.
            group: What is removed, as torch-pruning has it.
        """
        for dep, idxs in group.items:
            step = dep.target.grad_fn
            if kind_of(step) in ("Split", "SplitWithSizes") and step in graph.origins:
                owner, parts = ".".join(filter(None, (prefix, graph.origins[step]))), parts_of(dep.target.module)
                if parts.sizes:
                    self._splits.setdefault(step, (owner, parts, list(parts.sizes)))
            layout: Layout | None = graph.layouts.get(dep.target)
            if layout is None or "View" not in kind_of(step) or step not in graph.origins:
                continue
            owner = ".".join(filter(None, (prefix, graph.origins[step])))
            gone = np.zeros([size for _, size in orders(layout)], dtype=bool)
            kept = gone.size - self._gone[prefix, dep.target]  # of another group's, some may have gone before
            if len(set(idxs)) > kept or (factor := _shrinking(gone, idxs)) is None:
                continue
            self._gone[prefix, dep.target] += len(set(idxs))
            place = next(axis for axis in channel_axes(layout) if orders(layout)[factor] in layout[axis])
            size, several = shape_of(step, 0)[place], len(channel_axes(layout)) > 1
            self._changes[owner][size, several] = size * (kept - len(set(idxs))) // gone.size

    def write(self, model: nn.Module) -> None:
        """Set the attributes, in place."""
        self._write_splits(model)
        for owner, changes in self._changes.items():
            module = model.get_submodule(owner)
            if isinstance(module, HeadAttention) or module2type(module) != OPTYPE.ELEMENTWISE:
                continue  # it knows how wide it is
            attributes = {key: value for key, value in vars(module).items() if type(value) is int}
            for (size, several), left in changes.items():
                if not several and (size, True) in changes:
                    continue  # heads alone
                same = [key for key, value in attributes.items() if value == size and not _OTHERWISE.search(key)]
                for key in sorted(same, key=lambda key: bool(_COUNTS.search(key)) != several)[:1] if several else same:
                    if several or not _COUNTS.search(key):
                        setattr(module, key, left)

    def _write_splits(self, model: nn.Module) -> None:
        done: set[tuple[str, str]] = set()
        for owner, parts, before in self._splits.values():
            module = model.get_submodule(owner)
            for key, value in list(vars(module).items()):
                new: Any = None
                if isinstance(value, (list, tuple)) and list(value) == before:
                    new = type(value)(parts.sizes)
                elif type(value) is int and not _OTHERWISE.search(key) and not _COUNTS.search(key):
                    new = {before[0]: parts.sizes[0], sum(before): sum(parts.sizes)}.get(value)
                if new is not None and (owner, key) not in done:
                    setattr(module, key, new)
                    done.add((owner, key))


def _shrinking(gone: NDArray[np.bool_], idxs: Collection[int]) -> int | None:
    """The factor of which whole slices go, when these channels do; the last, where single channels of one axis do."""
    if gone.ndim == 1:
        return 0
    if max(idxs) >= gone.size:
        return None
    gone.flat[list(idxs)] = True
    for factor in range(gone.ndim):
        slices = np.moveaxis(gone, factor, 0).reshape(gone.shape[factor], -1)
        if bool((slices.all(axis=1) == slices.any(axis=1)).all()):
            return factor
    return None
