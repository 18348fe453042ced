"""Recurrent layers as one step each in a trace of gradients, whatever their kernels do inside."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from topocompress.network.layers import RECURRENT


class _Step(torch.autograd.Function):
    """Computes without a trace; what comes out counts as computed from the input in one step."""

    @staticmethod
    def forward(_ctx: Any, compute: Callable[[Tensor], tuple[Tensor, ...]], inputs: Tensor) -> tuple[Tensor, ...]:
        return compute(inputs)

    @staticmethod
    def backward(_ctx: Any, *_: Tensor) -> tuple[None, None]:
        return None, None


@contextlib.contextmanager
def in_one_step(model: nn.Module) -> Iterator[None]:
    """In this block every recurrent layer that is called with one tensor leaves one step in a trace."""
    with contextlib.ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, RECURRENT):
                module.forward = _as_step(module.forward)
                stack.callback(delattr, module, "forward")
        yield


def _as_step(plain: Callable[..., Any]) -> Callable[..., Any]:
    def forward(inputs: Any, *states: Any, **more: Any) -> Any:
        if states or more or not isinstance(inputs, Tensor):
            return plain(inputs, *states, **more)
        several: list[bool] = []

        def compute(given: Tensor) -> tuple[Tensor, ...]:
            output, state = plain(given)
            several.append(isinstance(state, tuple))
            return (output, *state) if several[0] else (output, state)

        output, *state = _Step.apply(compute, inputs)
        return output, tuple(state) if several[0] else state[0]

    return forward
