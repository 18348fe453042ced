"""What a model costs and how often it is right: parameters, multiply-accumulates, accuracy, latency, memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from topocompress.detectors import Boxes, box_agreement, boxes_of
from topocompress.errors import DataError, ExportError, ModelError
from topocompress.export import open_session, run_session
from topocompress.inference import batch_parts, evaluating, main_output, run_forward
from topocompress.results import Latency

MINIMUM_RUNS = 5
"""Runs counted per file and batch size even when the time budget is spent."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a model says of some samples.

    Attributes:
        classes: Top-1 class per sample, (samples,); per pixel, (samples, h, w), for segmentation; none for a detector.
        accuracy: Share in 0..1 of labelled samples (or pixels) whose class is the label; ``None`` without labels.
        boxes: What a detector finds in each sample; ``None`` for other networks.
    """

    classes: NDArray[np.int64]
    accuracy: float | None
    boxes: tuple[Boxes, ...] | None = None


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
            if labelled and labels is not None and bool((labels >= 0).any()):
                _check_labels(labels, classes, scores.shape[1])
                known = labels.cpu() >= 0
                correct += int((classes == labels.cpu())[known].sum())
                known_labels += int(known.sum())
            if progress is not None:
                progress(done, total)
    if boxes:
        return Predictions(classes=np.empty(0, np.int64), accuracy=None, boxes=tuple(boxes))
    if not found:
        raise DataError("there are no samples to evaluate on")
    return Predictions(classes=np.concatenate(found), accuracy=correct / known_labels if known_labels else None)


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

    Of two detectors: the share of their boxes that both find, see :func:`topocompress.detectors.box_agreement`.

    Raises:
        DataError: The two were not made from the same samples.
    """
    if first.boxes is not None and second.boxes is not None and len(first.boxes) == len(second.boxes):
        return box_agreement(first.boxes, second.boxes)
    if first.classes.shape != second.classes.shape:
        raise DataError(f"predictions of shapes {first.classes.shape} and {second.classes.shape} cannot be compared")
    return float(np.mean(first.classes == second.classes))


def compare_latency(
    paths: Sequence[Path],
    *,
    sample: NDArray[Any],
    batch_sizes: Sequence[int] = (1, 8),
    runs: int = 30,
    warmup: int = 5,
    threads: int | None = None,
    max_seconds: float = 60.0,
) -> list[tuple[Latency, ...]]:
    """Time ONNX files against each other on the CPU, in turn in one run, so that a busy moment hits all alike.

    Args:
        paths: The files; all are loaded at once.
        sample: (1, C, H, W) input, repeated to each batch size.
        batch_sizes: Samples per inference.
        runs: Counted inferences per file and batch size, at least 1.
        warmup: Inferences before counting starts.
        threads: Threads of each file's inference; ONNX Runtime's default (one per core) if ``None``.
        max_seconds: Time budget per batch size, over all files and warm-up included; once it is spent, counting ends
            after :data:`MINIMUM_RUNS` runs of each. ``Latency.runs`` says how many there were.

    Returns:
        For each file one :class:`Latency` per batch size, in the order given.

    Raises:
        DataError: ``runs`` or a batch size is below 1.
        ExportError: A file cannot be loaded or does not accept the batch.
    """
    if runs < 1 or any(batch < 1 for batch in batch_sizes):
        raise DataError(f"runs and batch sizes must be 1 or more; got {runs} and {list(batch_sizes)}")
    options = ort.SessionOptions()
    # Idle threads of one file would go on spinning on the cores on which the next is being timed.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.inter_op_num_threads = 1
    if threads is not None:
        options.intra_op_num_threads = threads
    sessions = [open_session(path, options) for path in paths]
    results: list[list[Latency]] = [[] for _ in paths]
    for batch in batch_sizes:
        inputs = np.repeat(sample, batch, axis=0)
        for result, times in zip(results, _time_in_turn(sessions, inputs, runs, warmup, max_seconds), strict=True):
            median, p95 = np.percentile(times, (50, 95))
            result.append(Latency(batch=batch, median_ms=float(median), p95_ms=float(p95), runs=len(times)))
    return [tuple(result) for result in results]


def _time_in_turn(
    sessions: Sequence[ort.InferenceSession], inputs: NDArray[Any], runs: int, warmup: int, max_seconds: float
) -> list[list[float]]:
    """Milliseconds per session and counted round; each round starts with the next session."""
    times: list[list[float]] = [[] for _ in sessions]
    deadline = time.perf_counter() + max_seconds
    for turn in range(-warmup, runs):
        late = time.perf_counter() > deadline
        if late and turn < 0 and turn != -warmup:  # one warm-up round is enough where each takes that long
            continue
        if late and turn >= MINIMUM_RUNS:
            break
        for offset in range(len(sessions)):
            index = (turn + offset) % len(sessions)
            started = time.perf_counter_ns()
            run_session(sessions[index], inputs)
            if turn >= 0:
                times[index].append((time.perf_counter_ns() - started) / 1e6)
    return times


def peak_memory(path: Path, *, sample: NDArray[Any], batch: int = 1) -> int | None:
    """Peak resident memory of a fresh process that loads the ONNX file and runs one batch, bytes.

    Python, numpy and ONNX Runtime themselves are in it (some 50 MB), as they are in any such service.

    Args:
        path: The ONNX file.
        sample: (1, C, H, W) input, repeated to the batch size.
        batch: Samples in the batch.

    Returns:
        Bytes, or ``None`` on a system that does not tell (anything but Linux and macOS).

    Raises:
        ExportError: The process failed: the file cannot be loaded or run.
    """
    if sys.platform not in {"linux", "darwin"} or not sys.executable:
        return None
    script = Path(__file__).with_name("_inference_process.py")
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder, "input.npy")
        np.save(inputs, np.repeat(sample, batch, axis=0))
        # -P keeps the script's folder off sys.path, where our types.py would hide the standard library's.
        command = [sys.executable, "-P", os.fspath(script), os.fspath(Path(path).absolute()), os.fspath(inputs)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise ExportError(f"the inference process failed on {Path(path).name}: {lines[-1]}")
    answer = done.stdout.strip()
    return None if answer == "none" else int(answer)
