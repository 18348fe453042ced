"""Dependency graphs of a network: of the whole where torch-pruning can follow it, else of the parts that it can follow.

A *part* is a module that sees one tensor and returns tensors. What it computes inside is its own affair: channels that
never leave it can be removed without looking at the rest of the network, so a network whose whole cannot be followed
(shuffled channels, windows of tokens, outputs that depend on the data) still gives up the channels inside its blocks.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch_pruning as tp
from torch import Tensor, nn

from topocompress.activation.module import TopologicalActivation
from topocompress.errors import ModelError
from topocompress.network.inference import all_outputs, evaluating, first_line, run_forward

LAYERS = (nn.Conv2d, nn.Linear)
"""Modules whose output channels are filters."""

Found = TypeVar("Found")
Result = TypeVar("Result")

PATIENCE = 60.0
"""Seconds that following one part may take."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A module that was followed on its own.

    Attributes:
        name: Its name in the network; empty for the whole.
        graph: Its dependency graph; names in it begin below the part.
        everywhere: Names, in the network, of the linear layers that see a map or tokens and work at every place alike.
    """

    name: str
    graph: tp.DependencyGraph
    everywhere: frozenset[str] = frozenset()

    def own_name(self, name: str) -> str:
        """What a module of the network is called in the part."""
        return name[len(self.name) + 1 :] if self.name else name


def trace(model: nn.Module, example: Tensor) -> tp.DependencyGraph:
    """The dependency graph of ``model``, which is put into eval mode and must be the caller's own copy.

    Args:
        model: A copy whose parameters will require gradients.
        example: (1, C, H, W) input, or what the module takes where it is a part.

    Raises:
        ModelError: The model cannot be traced.
    """
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(True)  # the trace follows gradients
    hooks = [(module, module._forward_hooks.copy()) for module in model.modules()]
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            return tp.DependencyGraph().build_dependency(
                model,
                example_inputs=(example,),  # in a tuple, or else it is first tried without its batch axis
                output_transform=all_outputs,
                verbose=False,
                customized_pruners={TopologicalActivation: _Amplitudes()},
            )
    except Exception as error:
        raise ModelError(
            f"cannot trace {type(model).__name__} on an input of shape {tuple(example.shape)}: "
            f"{type(error).__name__}: {first_line(error)}",
            hint="Check the input size (--input-size); models with data-dependent control flow are not supported.",
        ) from error
    finally:  # it leaves its own on a model whose forward pass fails
        for module, before in hooks:
            module._forward_hooks = before
        # Some modules keep what they compute in eval mode (position biases, say) until they train again: with it the
        # trace of gradients, which cannot be copied, and widths that pruning is about to change.
        model.train().eval()


class _Amplitudes(tp.BasePruningFunc):  # type: ignore[misc]
    """The amplitudes of a topological activation go with its channels."""

    def prune_out_channels(self, layer: TopologicalActivation, idxs: list[int]) -> TopologicalActivation:
        if layer.channels > 1:
            kept = sorted(set(range(layer.channels)) - set(idxs))
            layer.amplitude = self._prune_parameter_and_grad(layer.amplitude, kept, 0)
        return layer

    prune_in_channels = prune_out_channels

    def get_out_channels(self, layer: TopologicalActivation) -> int | None:
        return layer.channels if layer.channels > 1 else None

    get_in_channels = get_out_channels


def trace_parts(model: nn.Module, names: Iterable[str], example: Tensor) -> dict[str, Part]:
    """The graphs of parts that :func:`follow` has found in another copy of the network.

    Raises:
        ModelError: A part cannot be traced.
    """
    parts: dict[str, Part] = {}
    calls: _Calls | None = None
    for name in dict.fromkeys(names):
        received: Tensor | None = example
        if name:
            calls = calls or _Calls(model, example)
            received = calls.input_of(name)
        if received is None:
            raise ModelError(f"{name}: the network does not call it with one tensor, or shares it with another module")
        parts[name] = Part(name=name, graph=trace(model.get_submodule(name), received))
    return parts


def follow(
    model: nn.Module,
    example: Tensor,
    describe: Callable[[Part], list[Found]],
    *,
    whole: Callable[[nn.Module], bool] = lambda _: True,
    seconds: float = PATIENCE,
) -> list[Found]:
    """Describe the whole network, or, where that cannot be done, the largest parts for which it can.

    Args:
        model: The caller's own copy, in eval mode afterwards.
        example: (1, C, H, W) input.
        describe: What is wanted of a part. A part for which it raises, or takes too long, is divided.
        whole: Whether a module may be followed as one part; its children are tried at once where not.
        seconds: How long one part may take.

    Returns:
        What ``describe`` found, in the order of the model's modules.

    Raises:
        ModelError: The network does not run on the example.
    """
    calls = _Calls(model, example)
    found: list[Found] = []
    waiting = [""]
    while waiting:
        name = waiting.pop()
        module = model.get_submodule(name)
        if not any(isinstance(child, LAYERS) for child in module.modules()):
            continue
        received = calls.input_of(name) if name else example
        if received is not None and whole(module):
            attempt = functools.partial(_described, calls, module, name, received, describe)
            with contextlib.suppress(Exception, _TooLong):  # whatever went wrong, its children may still do
                found += _in_time(attempt, seconds)
                continue
        waiting += reversed([".".join(filter(None, (name, child))) for child, _ in module.named_children()])
    return found


def _described(
    calls: _Calls, module: nn.Module, name: str, received: Tensor, describe: Callable[[Part], list[Found]]
) -> list[Found]:
    graph = trace(module, received)
    if not calls.all_in(graph, module, name):
        raise ModelError(f"{name or 'the network'}: some layers cannot be reached from its output")
    return describe(Part(name=name, graph=graph, everywhere=calls.everywhere))


class _Calls:
    """Which modules one forward pass calls, with what."""

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        self._model = model
        self._inputs: dict[str, Tensor | None] = {}
        self._counts: Counter[str] = Counter()
        self._within: Counter[tuple[str, str]] = Counter()
        self._linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
        active: list[str] = []
        with contextlib.ExitStack() as stack:
            for name, module in model.named_modules():
                if name:
                    stack.callback(module.register_forward_pre_hook(self._enter(name, active), with_kwargs=True).remove)
                    stack.callback(module.register_forward_hook(lambda *_: _leave(active)).remove)
            stack.enter_context(evaluating(model))
            run_forward(model, example)

    def _enter(self, name: str, active: list[str]) -> Callable[..., None]:
        def enter(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            alone = len(args) == 1 and not kwargs and isinstance(args[0], Tensor)
            self._inputs.setdefault(name, args[0].detach().clone() if alone else None)
            self._counts[name] += 1
            self._within.update((outer, name) for outer in active)
            active.append(name)

        return enter

    def all_in(self, graph: tp.DependencyGraph, part: nn.Module, name: str) -> bool:
        """Whether a part's graph holds all its layers that are called; those lost may be read by others."""
        return all(
            module in graph.module2node
            for child, module in part.named_modules()
            if isinstance(module, LAYERS) and (child == "" or self._counts[".".join(filter(None, (name, child)))])
        )

    @property
    def everywhere(self) -> frozenset[str]:
        """The linear layers whose input has more axes than samples and features."""
        received = ((name, self._inputs.get(name)) for name in self._linear)
        return frozenset(name for name, inputs in received if inputs is not None and inputs.ndim > 2)

    def input_of(self, name: str) -> Tensor | None:
        """What a module was called with; ``None`` unless that is one tensor and nobody else reaches inside it."""
        module = self._model.get_submodule(name)
        inner = [f"{name}.{child}" for child, _ in module.named_modules() if child]
        if any(self._counts[child] != self._within[name, child] for child in inner):
            return None
        own = {id(parameter) for parameter in module.parameters()}
        elsewhere = (
            each
            for other, holder in self._model.named_modules()
            if other != name and not other.startswith(f"{name}.")
            for each in holder.parameters(recurse=False)
        )
        return None if any(id(each) in own for each in elsewhere) else self._inputs.get(name)


def _leave(active: list[str]) -> None:
    active.pop()


class _TooLong(BaseException):
    """Raised inside work that takes too long; no ``except Exception`` holds it up."""


def _in_time(work: Callable[[], Result], seconds: float) -> Result:
    """What ``work`` returns; it runs in a thread of its own, which is interrupted where it takes longer.

    Raises:
        _TooLong: It took longer. Other errors come as they are.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            try:
                results.append(work())
            except BaseException as error:  # noqa: BLE001 - whatever it is, the caller gets it
                errors.append(error)
        except _TooLong:  # it came when all was done
            pass

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        thread.join(seconds)
    finally:
        while thread.is_alive():  # once may not be enough: a bare except inside can swallow it
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_TooLong))
            thread.join(0.5)
    if results:
        return results[0]
    raise errors[0] if errors else _TooLong
