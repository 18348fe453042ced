"""A network run as it is used and as it is trained, without chance and without a trace.

Some networks compute in training what they do not compute otherwise, such as an auxiliary classifier. What is to be
seen here is that, and not what training does to every network: norms keep their statistics, and nothing is dropped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from topocompress.network.functions import FunctionCalls
from topocompress.network.inference import all_outputs, preserved, run_forward

_DROPPING: frozenset[Callable[..., Any]] = frozenset(
    {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout}
)
_RANDOM_NAMES = ("DropPath", "StochasticDepth", "DropBlock2d", "DropBlock3d")


@dataclass(frozen=True, eq=False)
class Run:
    """One way to run a network.

    Attributes:
        inputs: (1, C, H, W), or what a part of a network takes.
        training: Whether as in training.
    """

    inputs: Tensor
    training: bool = False


@contextlib.contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """The model in eval mode, or as in training but for norms and dropout.

    Restored on the way out: modes, random state, and the buffers, where something has written into them.
    """
    with preserved(model):
        model.eval()
        if not training:
            yield
            return
        for module in model.modules():
            module.training = not _unsteady(module)
        buffers = [
            (module, name, buffer, buffer.detach().clone())
            for module in model.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]
        try:
            with _NothingDropped():
                yield
        finally:
            with torch.no_grad():
                for module, name, buffer, content in buffers:
                    if not torch.equal(buffer, content):
                        buffer.copy_(content)
                    module._buffers[name] = buffer


def outputs_of(model: nn.Module, run: Run) -> list[Tensor]:
    """All floating-point tensors that a network returns, without gradients.

    Raises:
        ModelError: The model does not accept the input.
    """
    with in_mode(model, training=run.training), torch.no_grad():
        return [each for each in all_outputs(run_forward(model, run.inputs)) if each.is_floating_point()]


def _unsteady(module: nn.Module) -> bool:
    kinds = (_NormBase, _DropoutNd, nn.MultiheadAttention, nn.RReLU)
    return isinstance(module, kinds) or type(module).__name__ in _RANDOM_NAMES


class GradientsKept(FunctionCalls):
    """A forward pass's own ``torch.no_grad`` switches nothing off: what it computes can be followed all the same."""

    def _call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return None if func is torch._C._set_grad_enabled else func(*args, **kwargs)


@contextlib.contextmanager
def nothing_overwritten(model: nn.Module) -> Iterator[None]:
    """In this block activations compute in new memory.

    What overwrites a view, as the outputs of an instance norm are one, takes the norm out of the trace of gradients.
    """
    inplace: list[Any] = [module for module in model.modules() if getattr(module, "inplace", None) is True]
    for module in inplace:
        module.inplace = False
    try:
        yield
    finally:
        for module in inplace:
            module.inplace = True


class EachAlone(FunctionCalls):
    """Local response norms see one channel at a time: none depends on which channels stand beside it.

    Attributes:
        found: Whether there were any.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found = False

    def _call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func is not F.local_response_norm:
            return func(*args, **kwargs)
        self.found = True
        return _alone(*args, **kwargs)


def _alone(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:  # noqa: ARG001 - torch's names
    """The norm of Krizhevsky et al., "ImageNet Classification with Deep CNNs", 2012, over a window of one channel."""
    return input / (k + alpha * input * input) ** beta


class _NothingDropped(FunctionCalls):
    """Calls of dropout give back what they got."""

    def _call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func in _DROPPING:
            return args[0] if args else kwargs["input"]
        if func is F.scaled_dot_product_attention:
            args = (*args[:4], 0.0, *args[5:]) if len(args) > 4 else args
            kwargs |= {"dropout_p": 0.0} if "dropout_p" in kwargs else {}
        return func(*args, **kwargs)
