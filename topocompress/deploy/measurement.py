"""What a model costs and how often it is right: parameters, multiply-accumulates, accuracy, latency, memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from topocompress.errors import DataError, ModelError
from topocompress.network.detectors import Boxes, box_agreement, boxes_of
from topocompress.network.inference import batch_parts, evaluating, main_output, run_forward


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a model says of some samples.

    Attributes:
        classes: Top-1 class per sample, (samples,); per pixel, (samples, h, w), for segmentation; none for a detector.
        accuracy: Share in 0..1 of labelled samples (or pixels) whose class is the label; ``None`` without labels.
        boxes: What a detector finds in each sample; ``None`` for other networks.
        labels: What ``accuracy`` was taken against, shaped as ``classes``, -1 where unknown; ``None`` without labels.
        confidence: Mean probability in 0..1 of the top-1 class, where the output is one score per class.
    """

    classes: NDArray[np.int64]
    accuracy: float | None
    boxes: tuple[Boxes, ...] | None = None
    labels: NDArray[np.int64] | None = None
    confidence: float | None = None


def count_parameters(model: nn.Module) -> int:
    """Number of parameters, frozen ones included; one that several layers share counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def layer_macs(model: nn.Module, example: Tensor) -> dict[str, int]:
    """Multiply-accumulates of each module for one sample.

    Counted are convolutions (grouped and transposed ones too), linear layers and matrix products, attention included.
    Not counted: biases, norms, activations, pooling, element-wise work, recurrent cells, and custom operators such as
    deformable convolution.

    Args:
        model: The network; left as it was.
        example: (1, C, H, W) input; of a larger batch only the first sample is run.

    Returns:
        Module name → multiply-accumulates done in that module itself, not in a module inside it; the empty name for
        those in the outermost forward. Modules that do none are left out. The sum is the network's total.

    Raises:
        ModelError: The model does not accept the example.
    """
    counts: dict[str, int] = {}
    running: list[str] = [""]
    counted = 0
    with evaluating(model) as device, _fast_path_off(), contextlib.ExitStack() as hooks:
        counter = FlopCounterMode(display=False)

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

        def leave(_module: nn.Module, _inputs: Any, _output: Any) -> None:
            settle()
            running.pop()

        for name, module in model.named_modules():
            hooks.callback(module.register_forward_pre_hook(enter(name)).remove)
            hooks.callback(module.register_forward_hook(leave).remove)
        with counter:
            run_forward(model, example[:1].to(device))
    return counts


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
    progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Run the model over batches and take the top-1 classes, or a detector's boxes (then labels are not looked at).

    Args:
        model: The network; left as it was. Its device is used.
        loader: Batches of inputs (B, C, H, W), alone or with labels (B,), or (B, h, w) per pixel. A negative label
            means that there is none.
        labelled: Whether to look at the labels.
        progress: Called after each batch with (batches done, batches in all; 0 if the loader does not tell).

    Raises:
        DataError: No samples, labels of another shape than the predictions, or beyond the model's classes.
        ModelError: The model does not accept the inputs; its outputs hold NaN or infinity, or have no class axis.
    """
    total = len(loader) if isinstance(loader, Sized) else 0
    found: list[NDArray[np.int64]] = []
    boxes: list[Boxes] = []
    correct = known_labels = 0
    truth: list[NDArray[np.int64]] = []
    certain = 0.0
    with evaluating(model) as device:
        for done, batch in enumerate(loader, start=1):
            inputs, labels = batch_parts(batch)
            output = run_forward(model, inputs.to(device))
            if (detected := boxes_of(output)) is not None:
                boxes += detected
                if progress is not None:
                    progress(done, total)
                continue
            scores = main_output(output)
            if not torch.isfinite(scores).all():
                raise ModelError(
                    f"the model's outputs hold NaN or infinity, first in batch {done}",
                    hint="Check the weights, and that inputs are normalised as in training (--mean, --std).",
                )
            classes = scores.argmax(1).cpu()
            found.append(classes.numpy())
            if scores.ndim == 2:
                certain += float(scores.softmax(1).amax(1).sum())
            if labelled and labels is not None and bool((labels >= 0).any()):
                _check_labels(labels, classes, scores.shape[1])
                known = labels.cpu() >= 0
                correct += int((classes == labels.cpu())[known].sum())
                known_labels += int(known.sum())
                truth.append(labels.cpu().numpy().astype(np.int64))
            if progress is not None:
                progress(done, total)
    if boxes:
        return Predictions(classes=np.empty(0, np.int64), accuracy=None, boxes=tuple(boxes))
    if not found:
        raise DataError("there are no samples to evaluate on")
    predicted = np.concatenate(found)
    return Predictions(
        classes=predicted,
        accuracy=correct / known_labels if known_labels else None,
        labels=np.concatenate(truth) if truth and len(truth) == len(found) else None,
        confidence=certain / len(predicted) if predicted.ndim == 1 else None,
    )


def _check_labels(labels: Tensor, classes: Tensor, width: int) -> None:
    if labels.shape != classes.shape:
        raise DataError(f"labels of shape {tuple(labels.shape)} do not fit predictions of shape {tuple(classes.shape)}")
    if int(labels.max()) >= width:
        raise DataError(
            f"label {int(labels.max())} among the samples, but the model has {width} classes",
            hint="Labels must be the class indices that the model was trained with, counted from 0.",
        )


def agreement(first: Predictions, second: Predictions) -> float:
    """Share in 0..1 of samples (pixels, for segmentation) to which two models give the same top-1 class.

    Of two detectors: the share of their boxes that both find, see :func:`topocompress.network.detectors.box_agreement`.

    Raises:
        DataError: The two were not made from the same samples.
    """
    if first.boxes is not None and second.boxes is not None and len(first.boxes) == len(second.boxes):
        return box_agreement(first.boxes, second.boxes)
    if first.classes.shape != second.classes.shape:
        raise DataError(f"predictions of shapes {first.classes.shape} and {second.classes.shape} cannot be compared")
    return float(np.mean(first.classes == second.classes))
