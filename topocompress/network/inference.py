"""Running a network without leaving a trace on it, and reading what it returns."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import is_lazy

from topocompress.errors import ModelError
from topocompress.network.inputs import called
from topocompress.runtime.borders import border


def device_of(model: nn.Module) -> torch.device:
    """Device of the model's first parameter or buffer; the CPU for a model that has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


@contextlib.contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Restore on the way out each module's training flag, buffers that a forward pass wrote into, and random states.

    The statistics of norms are left alone: no pass in evaluation mode writes them.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = _buffers(model)
    device = device_of(model)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            _put_back(buffers)


def _buffers(model: nn.Module) -> list[tuple[nn.Module, str, Tensor, int, Tensor]]:
    return [
        (module, name, buffer, buffer._version, buffer.detach().clone())
        for module in model.modules()
        if not isinstance(module, _NormBase)
        for name, buffer in module._buffers.items()
        if buffer is not None and not is_lazy(buffer) and not buffer.is_inference()
    ]


def _put_back(buffers: list[tuple[nn.Module, str, Tensor, int, Tensor]]) -> None:
    for module, name, buffer, version, content in buffers:
        if name in module._buffers and module._buffers[name] is not buffer:
            module._buffers[name] = buffer
        if buffer._version != version:
            with torch.no_grad():
                buffer.copy_(content)


def written_buffers(model: nn.Module, inputs: Tensor) -> set[tuple[nn.Module, str]]:
    """Buffers that a forward pass in evaluation mode writes into, or replaces.

    Raises:
        ModelError: The model does not accept the inputs.
    """
    with evaluating(model) as device:
        before = _buffers(model)
        run_forward(model, inputs.to(device))
        return {
            (module, name)
            for module, name, buffer, version, _ in before
            if module._buffers.get(name) is not buffer or buffer._version != version
        }


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[torch.device]:
    """The model in evaluation mode without gradients; yields its device, restores what :func:`preserved` does."""
    with preserved(model), torch.no_grad():
        model.eval()
        yield device_of(model)


def run_forward(model: nn.Module, inputs: Tensor) -> Any:
    """The model's output for a batch.

    Raises:
        ModelError: The model does not accept the batch.
    """

    def refused(why: str) -> ModelError:  # asking for the shape only here: whoever counts calls would count it
        return ModelError(
            f"the model does not accept inputs of shape {tuple(inputs.shape)}, {inputs.dtype}: {why}",
            hint="Give the size it was trained with: --input-size.",
        )

    with border(refused):
        return called(model, inputs)


def check_steady(model: nn.Module, inputs: Tensor) -> None:
    """Refuse a network that computes something else each time: nothing could be held against what it gave before.

    Raises:
        ModelError: Two runs on the same inputs differ by more than rounding, or the inputs are not accepted.
    """
    with evaluating(model) as device:
        first, second = (all_outputs(run_forward(model, inputs.to(device))) for _ in range(2))
    if any(each.is_inference() for each in first) and not torch.is_inference_mode_enabled():
        raise ModelError(
            "the network runs under torch.inference_mode, where nothing can be followed",
            hint="Take torch.inference_mode out of its forward; torch.no_grad there does no harm.",
        )
    for one, other in zip(first, second, strict=False):
        finite = one[one.isfinite()].abs()
        size = float(finite.max()) if finite.numel() else 0.0
        if one.shape != other.shape or not torch.allclose(one, other, rtol=1e-3, atol=1e-4 * size, equal_nan=True):
            raise ModelError(
                "the network computes something else each time it is run, on the same inputs and in evaluation mode",
                hint="It draws random numbers or counts its calls: let it do so only in training (self.training).",
            )


def all_outputs(output: Any) -> list[Tensor]:
    """Every tensor in a model's output, in the order in which it is returned; see :func:`named_outputs`."""
    return [tensor for _, tensor in named_outputs(output)]


def named_outputs(output: Any, name: str = "") -> list[tuple[str, Tensor]]:
    """Every tensor in a model's output with what it is called, in the order in which it is returned.

    Dicts, tuples, lists and dataclasses may nest. A tensor is called by its keys, fields and numbers, joined with dots;
    a lone one ``output``.

    Args:
        output: What the model returned.
        name: What it is called, as a part of something larger.
    """
    if isinstance(output, Tensor):
        return [(name or "output", output)]
    parts: Iterable[tuple[Any, Any]]
    if isinstance(output, Mapping):
        parts = output.items()
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        parts = [(field.name, getattr(output, field.name)) for field in dataclasses.fields(output)]
    elif isinstance(output, tuple) and hasattr(output, "_fields"):
        parts = zip(output._fields, output, strict=True)
    elif isinstance(output, Iterable) and not isinstance(output, (str, bytes)):
        parts = enumerate(output)
    else:
        return []
    return [pair for key, part in parts for pair in named_outputs(part, f"{name}.{key}" if name else str(key))]


def main_output(output: Any) -> Tensor:
    """The tensor that carries the class scores: the output itself, its ``out`` entry, or its first tensor.

    Returns:
        (samples, classes) or (samples, classes, h, w); (samples, 1) of one number each.

    Raises:
        ModelError: No tensor among the outputs, or one without a class axis.
    """
    if isinstance(output, Mapping) and isinstance(output.get("out"), Tensor):
        output = output["out"]
    tensors = all_outputs(output)
    if tensors and tensors[0].ndim == 1 and tensors[0].is_floating_point():
        return tensors[0][:, None]
    if not tensors or tensors[0].ndim < 2:
        found = (
            f"a tensor of shape {tuple(tensors[0].shape)}" if tensors else f"{type(output).__name__} without a tensor"
        )
        raise ModelError(
            f"the model returns {found}; expected (samples, classes, ...)",
            hint="Wrap the model so that it returns its class scores.",
        )
    return tensors[0]


def batch_parts(batch: Any) -> tuple[Tensor, Tensor | None]:
    """Split what a loader yields into inputs and labels; labels are ``None`` where it yields inputs only."""
    if isinstance(batch, (tuple, list)):
        return batch[0], batch[1] if len(batch) > 1 else None
    return batch, None


def sample_count(samples: Any) -> int:
    """How many samples a map-style dataset holds."""
    return len(samples)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
