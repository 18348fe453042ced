"""What a user brings of a task: a metric by which networks are judged, a loss that fine-tuning minimises."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from topocompress.errors import DataError
from topocompress.network.inference import batch_parts, evaluating, run_forward
from topocompress.runtime.borders import border

Metric = Callable[[Iterable[tuple[Any, Any]]], Any]
"""From (outputs, targets), batch by batch, to one number, the higher the better.

Outputs are what the network returns in evaluation mode, on the CPU. Targets are what the data yields behind each input:
numbers, and tensors of one shape, are stacked, (samples, ...); anything else comes as a list. Where less is better, as
of an error, the function has an attribute ``lower_is_better = True``, and its negative is reported.
"""
Loss = Callable[[Any, Any], Tensor]
"""From the outputs of a batch, as the network returns them, and its targets to the mean loss, or (samples,) losses."""


def name_of(function: Callable[..., Any]) -> str:
    """What a metric or a loss is called; ``neg_NAME`` where less is better."""
    name = getattr(function, "__name__", type(function).__name__)
    return f"neg_{name}" if getattr(function, "lower_is_better", False) else str(name)


def identity_of(function: Callable[..., Any] | None) -> str:
    """What tells a function from others, for what is kept of its results; empty for none."""
    if function is None:
        return ""
    kind = function if hasattr(function, "__qualname__") else type(function)
    return f"{kind.__module__}:{kind.__qualname__}"


def judged_by(metric: Metric, pairs: Iterator[tuple[Any, Any]]) -> float:
    """A metric's number for outputs and targets; all of these are run through, whatever the metric reads.

    Raises:
        DataError: It fails, or gives no finite number.
    """
    name = getattr(metric, "__name__", type(metric).__name__)
    hint = "It gets (outputs, targets) of one batch after the other, and returns one number."
    raised: list[Exception] = []

    def watched() -> Iterator[tuple[Any, Any]]:
        try:
            yield from pairs
        except Exception as error:
            raised.append(error)
            raise

    try:
        with border(lambda why: DataError(f"the metric {name} failed: {why}", hint=hint)):
            value = metric(watched())
    except DataError:
        if raised:  # of the network, not of the metric
            raise raised[0] from None
        raise
    for _ in pairs:
        pass
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        number = None
    if number is None or not math.isfinite(number):
        shown = " ".join(repr(value).split())[:60]
        raise DataError(f"the metric {name} returned {shown}, which is no finite number", hint=hint)
    return -number if getattr(metric, "lower_is_better", False) else number


def losses_of(loss: Loss, outputs: Any, targets: Any, samples: int) -> Tensor:
    """(samples,) of a loss; the mean for each sample where it gives that alone.

    Raises:
        DataError: It fails, or gives neither, or nothing that has gradients.
    """
    name = getattr(loss, "__name__", type(loss).__name__)
    hint = "It gets the outputs of a batch and its targets, and returns their mean loss as a tensor, or one per sample."
    with border(lambda why: DataError(f"the loss {name} failed: {why}", hint=hint)):
        found = loss(outputs, targets)
    if not isinstance(found, Tensor) or found.numel() not in (1, samples):
        what = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise DataError(f"the loss {name} returned {what} for {samples} samples", hint=hint)
    if torch.is_grad_enabled() and not found.requires_grad:
        raise DataError(f"the loss {name} does not depend on the outputs in a way that gradients can follow", hint=hint)
    found = found.float()
    return found.reshape(samples) if found.numel() == samples else found.reshape(1).expand(samples)


def on_device(values: Any, device: torch.device) -> Any:
    """Tensors, in dicts, lists and tuples, on a device; whatever else there is, as it is."""
    if isinstance(values, Tensor):
        return values.detach().to(device)
    if isinstance(values, dict):
        return type(values)((key, on_device(value, device)) for key, value in values.items())
    if type(values) in (list, tuple):
        return type(values)(on_device(value, device) for value in values)
    return values


def collated(items: list[Any]) -> tuple[Tensor, Any]:
    """A batch of (input, target): (samples, ...) inputs; targets as :data:`Metric` says, -1 where there are none."""
    pairs = [(item[0], item[1]) if isinstance(item, tuple | list) and len(item) > 1 else (item, -1) for item in items]
    inputs = [each[0] if isinstance(each, tuple | list) else each for each, _ in pairs]
    return torch.stack([torch.as_tensor(each) for each in inputs]), _collated([target for _, target in pairs])


def _collated(targets: list[Any]) -> Any:
    """Numbers, and tensors of one shape, as one tensor; a list of anything else."""
    try:
        tensors = [torch.as_tensor(each) for each in targets if not isinstance(each, str | Mapping | list | tuple)]
    except (TypeError, ValueError, RuntimeError):
        return targets
    alike = len(tensors) == len(targets) and all(each.shape == tensors[0].shape for each in tensors)
    return torch.stack(tensors) if alike else targets


def measured(model: nn.Module, batches: Iterable[Any], metric: Metric) -> float:
    """A metric's number for a network, which is left as it was, over batches of (inputs, targets).

    Raises:
        DataError: As :func:`judged_by`.
        ModelError: The model does not accept the inputs.
    """
    cpu = torch.device("cpu")

    def pairs() -> Iterator[tuple[Any, Any]]:
        for batch in batches:
            inputs, targets = batch_parts(batch)
            yield on_device(run_forward(model, inputs.to(device)), cpu), targets

    with evaluating(model) as device:
        return judged_by(metric, pairs())
