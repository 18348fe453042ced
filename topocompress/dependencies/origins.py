"""Which module computed a step in the trace of gradients, and sizes kept on modules that follow what is removed."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode

from topocompress.dependencies.heads import HeadAttention
from topocompress.dependencies.layouts import Layout, channel_axes, kind_of, orders, width
from topocompress.dependencies.steps import shape_of
from topocompress.network.hook_points import tensors_in


class Origins(TorchFunctionMode):
    """Notes, while a network runs, which of its modules computes what.

    Attributes:
        modules: Step in the trace of gradients → name of the innermost module that was running.
    """

    def __init__(self) -> None:
        super().__init__()
        self.modules: dict[Any, str] = {}
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

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
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
    """Sizes that views take from attributes of modules: they follow the channels that are removed.

    A view to (batch, tokens, heads, d) or to (batch, width) may be written with numbers that a module keeps. They are set where
    the module that views has attributes of the very size.
    """

    def __init__(self) -> None:
        self._gone: defaultdict[tuple[str, Any], set[int]] = defaultdict(set)
        self._changes: defaultdict[str, dict[tuple[int, bool], int]] = defaultdict(dict)

    def note(self, prefix: str, graph: Any, group: Any) -> None:
        """Take down what is about to be removed.

        Args:
            prefix: Name of the part of the network that the graph is of.
            graph: The graph.
            group: What is removed, as torch-pruning has it.
        """
        for dep, idxs in group.items:
            step = dep.target.grad_fn
            layout: Layout | None = graph.layouts.get(dep.target)
            if layout is None or "View" not in kind_of(step) or step not in graph.origins:
                continue
            key = (prefix, dep.target)
            before = width(layout) - len(self._gone[key])
            # Channels are renumbered as others go; only how many have gone so far matters.
            self._gone[key] |= {len(self._gone[key]) + place for place in range(len(set(idxs)))}
            owner = ".".join(filter(None, (prefix, graph.origins[step])))
            axes, after = channel_axes(layout), before - len(set(idxs))
            first = next(axis for axis in axes if orders(layout)[0] in layout[axis])
            size = shape_of(step, 0)[first]
            self._changes[owner][size, len(axes) > 1] = size * after // width(layout)

    def write(self, model: nn.Module) -> None:
        """Set the attributes, in place."""
        for owner, changes in self._changes.items():
            module = model.get_submodule(owner)
            if isinstance(module, HeadAttention):
                continue
            attributes = {key: value for key, value in vars(module).items() if type(value) is int}
            for (size, several), left in changes.items():
                same = [key for key, value in attributes.items() if value == size]
                counting = [key for key in same if "heads" in key or "num" in key or key in ("h", "n_head")]
                others = [key for key in same if key not in counting]
                for key in (counting or others) if several else (others or counting):
                    setattr(module, key, left)
