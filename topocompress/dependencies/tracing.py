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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch_pruning as tp
from torch import Tensor, nn

from topocompress.dependencies.calls import Calls, Explored
from topocompress.dependencies.loose import put_back
from topocompress.dependencies.origins import Origins
from topocompress.dependencies.pruners import Graph
from topocompress.dependencies.recurrent import in_one_step
from topocompress.errors import ModelError
from topocompress.network.inference import all_outputs, first_line
from topocompress.network.inputs import called
from topocompress.network.layers import LAYERS
from topocompress.network.modes import GradientsKept, Run, in_mode, nothing_overwritten

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
        unread: Layers whose output is read by nothing that could be followed.
    """

    name: str
    graph: tp.DependencyGraph
    everywhere: frozenset[str] = frozenset()
    unread: frozenset[nn.Module] = frozenset()

    def own_name(self, name: str) -> str:
        """What a module of the network is called in the part."""
        return name[len(self.name) + 1 :] if self.name else name


def trace(model: nn.Module, runs: Sequence[Run], unread: set[nn.Module] | None = None) -> tp.DependencyGraph:
    """The dependency graph of ``model``, which is put into eval mode and must be the caller's own copy.

    Args:
        model: A copy whose parameters will require gradients.
        runs: What is followed; all of them together make one graph.
        unread: Receives the layers whose output is read by nothing that could be followed. They are ends of the graph
            like the network's outputs: what they read can be followed, and they keep their own width.

    Raises:
        ModelError: The model cannot be traced.
    """
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(True)  # the trace follows gradients

    origins = Origins()

    def forward(traced: nn.Module, _: Any) -> list[Tensor]:
        ends: list[Tensor] = []
        with origins.watching(traced):
            origins.first.clear()
            for number, run in enumerate(runs):
                ends += _ends(traced, run, set() if unread is None else unread, origins.outputs)
                for end in () if number else ends:
                    origins.first.update(_behind(end.grad_fn, origins.first))
        return ends

    try:
        with torch.enable_grad(), GradientsKept(), torch.random.fork_rng(devices=[]), nothing_overwritten(model):
            try:
                return Graph(origins).follow(model, forward)
            except Exception:
                if not put_back(model):
                    raise
                return Graph(origins).follow(model, forward)  # a buffer is more than a number for each channel
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"cannot trace {type(model).__name__} on an input of shape {tuple(runs[0].inputs.shape)}: "
            f"{type(error).__name__}: {first_line(error)}",
            hint="Check the input size (--input-size); models with data-dependent control flow are not supported.",
        ) from error
    finally:
        _remove_tracing_hooks(model)
        # Some modules keep what they compute in eval mode (position biases, say) until they train again: with it the
        # trace of gradients, which cannot be copied, and widths that pruning is about to change.
        model.train().eval()


def _remove_tracing_hooks(model: nn.Module) -> None:
    """Remove the hooks that torch-pruning leaves where a forward pass fails, and none that the model has set itself."""
    for module in model.modules():
        for key, hook in list(module._forward_hooks.items()):
            if str(getattr(hook, "__module__", "")).partition(".")[0] == tp.__name__:
                del module._forward_hooks[key]


def _ends(model: nn.Module, run: Run, unread: set[nn.Module], outputs: set[Any]) -> list[Tensor]:
    """A run's outputs, and those of its layers from which no output can be reached, the last of each chain."""
    computed: list[tuple[nn.Module, Tensor, Any]] = []

    def note(module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            computed.append((module, output, output.grad_fn))  # the tensor may be overwritten later

    with contextlib.ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, LAYERS):
                stack.callback(module.register_forward_hook(note).remove)
        stack.enter_context(in_one_step(model))
        stack.enter_context(in_mode(model, training=run.training))
        ends = [each for each in all_outputs(called(model, run.inputs)) if each.grad_fn is not None]
    outputs.update(each.grad_fn for each in ends)
    reached: set[Any] = set()
    for end in ends:
        reached.update(_behind(end.grad_fn, reached))
    for module, output, made in reversed(computed):
        if made is not None and made not in reached:
            ends.append(output)
            unread.add(module)
            reached.update(_behind(output.grad_fn, reached))
    return ends


def _behind(start: Any, known: set[Any]) -> Iterator[Any]:
    """A node of the trace of gradients and all that it was computed from, but for what is known."""
    waiting, seen = [start], set(known)
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting += [before for before, _ in node.next_functions]


def trace_parts(model: nn.Module, names: Iterable[str], explored: Explored) -> dict[str, Part]:
    """The graphs of parts that :func:`follow` has found in another copy of the network.

    Raises:
        ModelError: A part cannot be traced.
    """
    parts: dict[str, Part] = {}
    calls: Calls | None = None
    for name in dict.fromkeys(names):
        runs = explored.runs
        if name:
            calls = calls or Calls(model, explored.runs)
            runs = calls.runs_of(name)
        if not runs:
            raise ModelError(f"{name}: the network does not call it with one tensor, or shares it with another module")
        parts[name] = Part(name=name, graph=trace(model.get_submodule(name), runs))
    return parts


def follow(
    model: nn.Module,
    explored: Explored,
    describe: Callable[[Part], list[Found]],
    *,
    whole: Callable[[nn.Module], bool] = lambda _: True,
    seconds: float = PATIENCE,
) -> list[Found]:
    """Describe the whole network, or, where that cannot be done, the largest parts for which it can.

    Args:
        model: The caller's own copy, in eval mode afterwards.
        explored: How to run it.
        describe: What is wanted of a part. A part for which it raises, or takes too long, is divided.
        whole: Whether a module may be followed as one part; its children are tried at once where not.
        seconds: How long one part may take.

    Returns:
        What ``describe`` found, in the order of the model's modules.

    Raises:
        ModelError: The network does not run on the example.
    """
    calls = Calls(model, explored.runs)
    found: list[Found] = []
    waiting = [""]
    while waiting:
        name = waiting.pop()
        module = model.get_submodule(name)
        if not any(isinstance(child, LAYERS) for child in module.modules()):
            continue
        runs = calls.runs_of(name)
        if runs and whole(module):
            attempt = functools.partial(_described, calls, module, name, runs, describe)
            with contextlib.suppress(Exception, _TooLong):  # whatever went wrong, its children may still do
                found += _in_time(attempt, seconds)
                continue
        waiting += reversed([".".join(filter(None, (name, child))) for child, _ in module.named_children()])
    return found


def _described(
    calls: Calls, module: nn.Module, name: str, runs: Sequence[Run], describe: Callable[[Part], list[Found]]
) -> list[Found]:
    unread: set[nn.Module] = set()
    graph = trace(module, runs, unread)
    if calls.lost(graph.module2node, module, name):
        raise ModelError(f"{name or 'the network'}: some layers cannot be reached from its output")
    return describe(Part(name=name, graph=graph, everywhere=calls.everywhere, unread=frozenset(unread)))


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
