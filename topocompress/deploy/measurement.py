"""What a model costs and how often it is right: parameters, multiply-accumulates, accuracy, latency, memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from topocompress.errors import DataError, ModelError
from topocompress.network.detectors import Boxes, box_agreement, boxes_of
from topocompress.network.inference import batch_parts, evaluating, run_forward
from topocompress.network.layers import RECURRENT, input_weights
from topocompress.network.outputs import Outputs, outputs_of
from topocompress.network.variation import Values, explained, joined, picked


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a model says of some samples.

    Attributes:
        classes: Top-1 class per sample, (samples,); per pixel, (samples, h, w), for segmentation; none where the
            outputs are no scores of classes.
        accuracy: Share in 0..1 of labelled samples (or pixels) whose class is the label; ``None`` without labels.
        boxes: What a detector finds in each sample; ``None`` for other networks.
        labels: What ``accuracy`` was taken against, shaped as ``classes``, -1 where unknown; ``None`` without labels.
        confidence: Mean probability in 0..1 of the top-1 class, where the output is one score per class.
        values: What is compared of outputs that are no scores of classes, by their names; ``None`` for other networks.
        metric: The user's own metric; ``None`` without one.
    """

    classes: NDArray[np.int64]
    accuracy: float | None
    boxes: tuple[Boxes, ...] | None = None
    labels: NDArray[np.int64] | None = None
    confidence: float | None = None
    values: Mapping[str, Values] | None = None
    metric: float | None = None

    @property
    def one_class_each(self) -> bool:
        """Whether they are one class per sample."""
        return self.boxes is None and self.values is None and self.classes.ndim == 1

    def part(self, numbers: Sequence[int]) -> Predictions:
        """What is said of some of the samples; accuracy and confidence are not known of a part."""
        chosen = list(numbers)
        return Predictions(
            classes=self.classes[chosen] if len(self.classes) else self.classes,
            accuracy=None,
            boxes=None if self.boxes is None else tuple(self.boxes[number] for number in chosen),
            values=None
            if self.values is None
            else {name: replace(each, numbers=each.numbers[chosen]) for name, each in self.values.items()},
        )


def count_parameters(model: nn.Module) -> int:
    """Number of parameters, frozen ones included; one that several layers share counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def layer_macs(model: nn.Module, example: Tensor) -> dict[str, int]:
    """Multiply-accumulates of each module for one sample.

    Counted are convolutions (grouped and transposed ones too), linear and recurrent layers and matrix products,
    attention included. Not counted: biases, norms, activations, pooling, element-wise work, cells called by hand, and
    custom operators such as deformable convolution.

    Args:
        model: The network; left as it was.
        example: (1, C, H, W) input; of a larger batch only the first sample is run.

    Returns:
        Module name → multiply-accumulates done in that module itself, not in a module inside it; the empty name for
        those in the outermost forward. Modules that do none are left out. The sum is the network's total.

    Raises:
        ModelError: The model does not accept the example.
    """
    counts, running, counted = dict[str, int](), [""], 0
    with evaluating(model) as device, _fast_path_off(), contextlib.ExitStack() as hooks:
        counter: Any = FlopCounterMode(display=False)
        counter.mod_tracker = contextlib.nullcontext()  # torch's own fails on parameters as inputs
        counter.mod_tracker.parents = {"Global"}

        def settle() -> None:
            """Put what was computed since the last call on the innermost running module's account."""
            nonlocal counted
            total = counter.get_total_flops()
            if total > counted:
                counts[running[-1]] = counts.get(running[-1], 0) + (total - counted) // 2
                counted = total

        def enter(name: str) -> Callable[[nn.Module, Any], None]:
            def hook(_module: nn.Module, _inputs: Any) -> None:
                settle()
                running.append(name)

            return hook

        def leave(module: nn.Module, inputs: Any, _output: Any) -> None:
            nonlocal counted
            if isinstance(module, RECURRENT):  # what its kernel lets be seen differs from kind to kind
                counted = counter.get_total_flops()
                done = sum(step_macs(module)) * _steps(inputs[0])
                counts[running[-1]] = counts.get(running[-1], 0) + done
            settle()
            running.pop()

        for name, module in model.named_modules():
            hooks.callback(module.register_forward_pre_hook(enter(name)).remove)
            hooks.callback(module.register_forward_hook(leave).remove)
        with counter:
            run_forward(model, example[:1].to(device))
    return counts


def step_macs(layer: nn.RNNBase) -> tuple[int, int]:
    """Multiply-accumulates of a recurrent layer at one step: with what it reads, and of its units among themselves."""
    reading = sum(weight.numel() for weight in input_weights(layer).values())
    return reading, sum(weight.numel() for weight in layer.parameters() if weight.ndim > 1) - reading


def _steps(inputs: Any) -> int:
    """How often a recurrent layer steps, over all samples that it is given."""
    if isinstance(inputs, Tensor):
        return inputs.numel() // inputs.shape[-1]
    return len(inputs.data)


def count_macs(model: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of the whole network for one sample; see :func:`layer_macs` for what counts."""
    return sum(layer_macs(model, example).values())


@contextlib.contextmanager
def _fast_path_off() -> Iterator[None]:
    """Take attention apart: in evaluation torch runs it as one fused operator, which the counter counts as nothing."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def evaluate(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    labelled: bool = True,
    outputs: Outputs | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Run the model over batches and keep what it says: top-1 classes, a detector's boxes, or else its outputs.

    Args:
        model: The network; left as it was. Its device is used.
        loader: Batches of inputs (B, C, H, W), alone or with labels (B,), or (B, h, w) per pixel. A negative label
            means that there is none.
        labelled: Whether to look at the labels; those of a network without classes are not.
        outputs: What of the outputs is looked at, and how; by default decided on the first batch.
        progress: Called after each batch with (batches done, batches in all; 0 if the loader does not tell).

    Raises:
        DataError: No samples, labels of another shape than the predictions, or beyond the model's classes.
        ModelError: The model does not accept the inputs; its outputs hold NaN or infinity, or no entry per sample.
    """
    total = len(loader) if isinstance(loader, Sized) else 0
    found, truth = list[NDArray[np.int64]](), list[NDArray[np.int64]]()
    boxes, values = list[Boxes](), list[list[Values]]()
    correct = known_labels = samples = 0
    certain = 0.0
    with evaluating(model) as device:
        for done, batch in enumerate(loader, start=1):
            inputs, labels = batch_parts(batch)
            used = labels if labelled and isinstance(labels, Tensor) and bool((labels >= 0).any()) else None
            samples += len(inputs)
            if outputs is None:
                outputs = outputs_of(model, inputs, labels=None if used is None else used.ndim - 1)
            output = run_forward(model, inputs.to(device))
            if (detected := boxes_of(output)) is not None:
                boxes += detected
            else:
                tensors = outputs.tensors(output, len(inputs))
                _check_finite(tensors, done)
                if outputs.measure == "agreement":
                    scores = tensors[0]
                    scored = scores.is_floating_point()
                    classes = outputs.decided(scores).cpu()
                    found.append(classes.numpy())
                    if scored and classes.ndim == 1:
                        certain += float(outputs.scores(output, len(inputs)).softmax(1).amax(1).sum())
                    if used is not None:
                        _check_labels(used, classes, outputs.classes)
                        known = used.cpu() >= 0
                        correct += int((classes == used.cpu())[known].sum())
                        known_labels += int(known.sum())
                        truth.append(used.cpu().numpy().astype(np.int64))
                else:
                    values.append([picked(tensor) for tensor in tensors])
            if progress is not None:
                progress(done, total)
    if not samples or outputs is None:
        raise DataError("there are no samples to evaluate on")
    if values:
        names = [each.name for each in outputs.compared]
        whole = {name: joined(parts) for name, parts in zip(names, zip(*values, strict=True), strict=True)}
        return Predictions(classes=np.empty(0, np.int64), accuracy=None, values=whole)
    if not found:
        return Predictions(classes=np.empty(0, np.int64), accuracy=None, boxes=tuple(boxes))
    predicted = np.concatenate(found)
    return Predictions(
        classes=predicted,
        accuracy=correct / known_labels if known_labels else None,
        labels=np.concatenate(truth) if truth and len(truth) == len(found) else None,
        confidence=certain / len(predicted) if predicted.ndim == 1 else None,
    )


def _check_finite(tensors: Iterable[Tensor], batch: int) -> None:
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise ModelError(
            f"the model's outputs hold NaN or infinity, first in batch {batch}",
            hint="Check the weights, and that inputs are normalised as in training (--mean, --std).",
        )


def _check_labels(labels: Tensor, classes: Tensor, width: int | None) -> None:
    if labels.shape != classes.shape:
        raise DataError(f"labels of shape {tuple(labels.shape)} do not fit predictions of shape {tuple(classes.shape)}")
    if width is not None and int(labels.max()) >= width:
        raise DataError(
            f"label {int(labels.max())} among the samples, but the model has {width} classes",
            hint="Labels must be the class indices that the model was trained with, counted from 0.",
        )


def agreement(first: Predictions, second: Predictions) -> float:
    """How much of what one model says another says too, 0..1, by the measure that suits their outputs.

    The share of samples (pixels, for segmentation) to which both give the same top-1 class; of two detectors the share
    of boxes that both find, see :func:`topocompress.network.detectors.box_agreement`; of outputs that are no scores of
    classes the variation explained, see :func:`topocompress.network.variation.explained`, of several outputs the least.

    Args:
        first: The original's.
        second: The other's.

    Raises:
        DataError: The two were not made from the same samples, or from outputs of other shapes.
    """
    return max(0.0, likeness(first, second))


def likeness(first: Predictions, second: Predictions) -> float:
    """The same for choosing between networks: where variation is explained, worse than nothing is below 0."""
    if first.values is not None and second.values is not None:
        return min(output_agreements(first, second, lowest=-1.0).values())
    if first.boxes is not None and second.boxes is not None and len(first.boxes) == len(second.boxes):
        return box_agreement(first.boxes, second.boxes)
    if first.values is not second.values or first.classes.shape != second.classes.shape:
        raise DataError(f"predictions of shapes {first.classes.shape} and {second.classes.shape} cannot be compared")
    return float(np.mean(first.classes == second.classes))


def likenesses(first: Predictions, second: Predictions) -> dict[str, Any]:
    """The same as fields of a :class:`~topocompress.types.Measurement`, of each output where there are several."""
    each = output_agreements(first, second)
    if not each:
        return {"agreement": agreement(first, second)}
    return {"explained_variation": min(each.values()), "outputs": each if len(each) > 1 else {}}


def output_agreements(first: Predictions, second: Predictions, *, lowest: float = 0.0) -> dict[str, float]:
    """The variation explained of each output, by its name; empty where outputs are compared otherwise.

    Args:
        first: The original's.
        second: The other's.
        lowest: What is less is raised to this.

    Raises:
        DataError: The two were not made from the same samples, or from outputs of other shapes.
    """
    one, other = first.values or {}, second.values or {}
    shapes = [[each.numbers.shape[:1] + each.shape for each in side.values()] for side in (one, other)]
    if shapes[0] != shapes[1]:
        raise DataError(f"outputs of shapes {shapes[0]} and {shapes[1]} cannot be compared")
    return {name: max(lowest, explained(one[name], each)) for name, each in zip(one, other.values(), strict=True)}
