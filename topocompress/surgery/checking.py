"""Whether two networks compute the same, told from rounding errors and not from how large their outputs are.

An output of 300 + f(x) differs little from another one, relative to 300, however wrong f is. So differences are held
against what the outputs differ by between inputs and what a removal changes, and computed in float64 where the network
runs in it: rounding then lies so far below any signal that one bound serves all networks.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from topocompress.dependencies.calls import Explored, explore
from topocompress.errors import ModelError
from topocompress.network.copying import copied
from topocompress.network.detectors import followed
from topocompress.network.inputs import made_up
from topocompress.network.modes import Run, outputs_of
from topocompress.runtime.resources import available_memory

_NUDGE = 1e-6
"""Relative noise on an input, to see how far rounding errors go where float64 cannot be had."""
_SINGLE, _DOUBLE = 1e-3, 1e-6
"""How much of what a removal changes two networks may differ by, in single and in double precision."""
_SAFETY = 1e3
_ROUNDING = 64.0


@dataclass(frozen=True)
class Difference:
    """Where two networks differ by more than rounding.

    Attributes:
        largest: Of the output's numbers, the largest difference.
        changes: How far the same output moves, between inputs or by the removal.
    """

    largest: float
    changes: float


@dataclass
class Output:
    """What is known of one output of the unpruned network in one run.

    Attributes:
        whole: What it computes.
        rounding: How far rounding errors may move it.
        varies: How far its numbers differ between the runs.
    """

    whole: Tensor
    rounding: float
    varies: float = 0.0


class Yardstick:
    """What an unpruned network computes, on which inputs, how precisely, and how to compare others with it.

    Args:
        model: The network; left as it was.
        example: (1, C, H, W) input on the model's device. Noise of its strength is a second one, both in one batch a
            third, since a network may compute otherwise what it gets more than one of.
        others: Further inputs; those on which the model does not run, or not steadily, are left out.

    Attributes:
        explored: How to run the network.
        double: Whether it is compared in float64.

    Raises:
        ModelError: It does not run on the example.
    """

    def __init__(self, model: nn.Module, example: Tensor, *others: Tensor) -> None:
        self.example = example
        self.explored: Explored = explore(followed(model), example)
        twin = _in_double(model, example)
        self.double = twin is not None
        self._model = model if twin is None else twin
        noise = torch.randn(example.shape, generator=torch.Generator().manual_seed(1)).to(example)
        strength = float(example.square().mean().sqrt()) or 1.0
        trained = [run for run in self.explored.runs if run.training] or [Run(example, training=True)]
        more = [run for run in self.explored.runs if not run.training and run.inputs is not example]
        self._runs: list[tuple[Run, list[Output]]] = []
        noise = made_up(model, strength * noise, example)
        both = torch.cat([example, noise])
        for run in (Run(example), Run(noise), Run(both), *map(Run, others), *more, *trained):
            self._add(model, run, needed=run.inputs is example and not run.training)
        self._see_variation()
        del self._model  # as large as two networks

    def _add(self, model: nn.Module, run: Run, *, needed: bool) -> None:
        """Take up a run; one that is not needed is left out where the network does not run, or is not steady."""
        try:
            outputs = self._rounded(model, run)
            repeated = outputs_of(followed(self._model), self._precise(run)) if run.training else []
        except ModelError:
            if needed:
                raise
            return
        chance = any(not torch.equal(one.whole, two) for one, two in zip(outputs, repeated, strict=False))
        unsteady = chance or any(not one.whole.isfinite().all() for one in outputs)
        if unsteady and not needed:
            outputs = [] if not run.training else [Output(one.whole, float("inf")) for one in outputs]
        if outputs or needed:
            self._runs.append((run, outputs))

    def _rounded(self, model: nn.Module, run: Run) -> list[Output]:
        """What the network computes, and how far rounding may move that."""
        whole = outputs_of(followed(self._model), self._precise(run))
        if self.double:
            other = outputs_of(followed(model), run)
            share = _SAFETY * torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
            least = _SAFETY * torch.finfo(torch.float64).eps
        else:
            generator = torch.Generator().manual_seed(2)
            nudge = torch.randn(run.inputs.shape, generator=generator).to(run.inputs)
            other = outputs_of(followed(model), Run(run.inputs * (1 + _NUDGE * nudge), run.training))
            share, least = 4.0, _ROUNDING * torch.finfo(torch.float32).eps
        found = []
        for one, two in zip(whole, other, strict=True):
            moved = _largest(one - two) if one.shape == two.shape else float("inf")
            found.append(Output(one, share * moved + least * _largest(one)))
        return found

    def _precise(self, run: Run) -> Run:
        return Run(run.inputs.double(), run.training) if self.double else run

    def _see_variation(self) -> None:
        first = self._runs[0][1]
        for _, outputs in self._runs[1:]:
            for one, two in zip(first, outputs, strict=False):
                if one.whole.shape == two.whole.shape:
                    two.varies = _largest(one.whole - two.whole)
                    one.varies = max(one.varies, two.varies)
        for _, outputs in self._runs[1:]:
            for one, two in zip(first, outputs, strict=False):
                if one.whole.shape[:1] != two.whole.shape[:1] and one.whole.shape[1:] == two.whole.shape[1:]:
                    two.varies = one.varies  # of more samples at once

    def shapes(self) -> list[list[tuple[int, ...]]]:
        """The shapes of all outputs, run by run."""
        return [[tuple(one.whole.shape) for one in outputs] for _, outputs in self._runs]

    def outputs(self, network: nn.Module, *, spare: bool = False) -> list[list[Tensor]]:
        """What another network computes in the same runs.

        Args:
            network: The network; left as it was.
            spare: Nobody needs it afterwards, so it may be changed.

        Raises:
            ModelError: It does not run on an input.
        """
        placed = (network if spare else copied(network)).double() if self.double else network
        return [outputs_of(followed(placed), self._precise(run)) for run, _ in self._runs]

    def difference(self, first: Sequence[Sequence[Tensor]], second: Sequence[Sequence[Tensor]]) -> Difference | None:
        """Where two networks differ most beyond rounding; ``None`` where they do not.

        Args:
            first: The outputs of the network with nobody reading the removed channels.
            second: The outputs of the network without them; of the same shapes.
        """
        worst: tuple[float, Difference] | None = None
        for (_, known), ones, twos in zip(self._runs, first, second, strict=True):
            for output, one, two in zip(known, ones, twos, strict=True):
                effect = _largest(one - output.whole) if one.shape == output.whole.shape else 0.0
                largest, changes = _largest(one - two), max(output.varies, effect)
                bound = output.rounding + _DOUBLE * effect
                if not self.double:  # what rounding could hide is not taken for equal
                    bound = min(output.rounding, _SINGLE * changes) + _SINGLE * effect
                if largest > bound and (worst is None or largest / max(changes, 1e-300) > worst[0]):
                    worst = largest / max(changes, 1e-300), Difference(largest, changes)
        return worst[1] if worst else None


def _largest(values: Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0


def _in_double(model: nn.Module, example: Tensor) -> nn.Module | None:
    """A copy that computes in float64 throughout; ``None`` where there is no room, or the network does not let it."""
    needed = 4 * 8 * sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))  # four networks at most
    on_gpu = example.device.type == "cuda"
    free = torch.cuda.mem_get_info(example.device)[0] if on_gpu else available_memory()
    if needed > free // 2:
        return None
    narrow = _Narrowing()
    try:
        twin = copied(model).double()
        with narrow:
            outputs = outputs_of(followed(twin), Run(example.double()))
    except (ModelError, RuntimeError, TypeError):  # a device, or an operation, without float64
        return None
    return twin if not narrow.found and all(each.dtype == torch.float64 for each in outputs) else None


class _Narrowing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees whether anything computed from float64 is kept with fewer digits."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = False

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if isinstance(output, Tensor) and output.is_floating_point() and output.dtype != torch.float64:
            self.found |= any(isinstance(each, Tensor) and each.dtype == torch.float64 for each in args)
        return output


def lively(model: nn.Module) -> nn.Module:
    """The model, or a copy in which what multiplies a signal by 0 does so no more, so that no wiring is hidden.

    Networks are often trained from, and sometimes left with, norms and scales of 0 at the ends of their blocks.
    """
    dead = {name for name, parameter in model.named_parameters() if parameter.numel() and not parameter.any()}
    if not dead:
        return model
    twin = copied(model)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            if name in dead and parameter.is_floating_point():
                noise = torch.randn(parameter.shape, generator=generator)
                inputs = parameter[0].numel() if parameter.ndim else 1
                parameter.copy_(0.1 * noise / max(1.0, inputs) ** 0.5)
    return twin


def stopping_in(network: nn.Module, inputs: Tensor) -> str:
    """The innermost module that was running when a network failed, with its class; empty where it does not fail."""
    running = [("", network)]
    with contextlib.ExitStack() as stack, torch.no_grad():
        for name, module in network.named_modules():
            if name:
                enter = functools.partial(lambda entry, *_: running.append(entry), (name, module))
                stack.callback(module.register_forward_pre_hook(enter).remove)
                stack.callback(module.register_forward_hook(lambda *_: running.pop() and None).remove)
        try:
            outputs_of(network, Run(inputs.to(next((each.dtype for each in network.parameters()), inputs.dtype))))
        except ModelError:
            name, module = running[-1]
            return f"{name} ({type(module).__name__})" if name else type(module).__name__
    return ""
