"""ONNX export, checked against PyTorch on real samples before the file takes its place."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors
from torch import Tensor, nn

from topocompress.deploy.graphs import opset_of, to_onnx
from topocompress.errors import DataError, ExportError, ModelError
from topocompress.network.copying import copied
from topocompress.network.detectors import Boxes, boxes_of, common
from topocompress.network.inference import all_outputs, evaluating, first_line, run_forward
from topocompress.network.inputs import fed
from topocompress.network.outputs import Outputs, outputs_of
from topocompress.runtime.borders import border
from topocompress.runtime.files import atomic_file
from topocompress.types import ExportCheck

_SAME_BOXES, _SAME_SCORE = 0.95, 0.05
"""Share of a detector's boxes that PyTorch and ONNX Runtime must have in common, with scores that differ by no more.

Detectors resize images, and the two round that differently.
"""

_NUDGE = 1e-5
"""Noise, as a share of the pixels' range, after which a detector that is not trained loses boxes by itself.

Measured on torchvision's: rounding moves their boxes about as much as a third of it.
"""

_MORE_LOST = 1.5
"""How many times as many boxes as PyTorch loses by noise may be lost in ONNX Runtime: both are counts of chance."""

SINGLE_FILE_LIMIT = 2**31 - 2**20
"""Bytes of weights that fit one ONNX file: protobuf ends at 2 GiB, and the graph needs some of it."""

ORT_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    # ONNX Runtime's own exceptions share no base class but Exception.
    *(kind for kind in vars(ort_errors).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)
"""Everything that ONNX Runtime raises when it cannot load or run a file."""


def export_onnx(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    samples: Tensor,
    tolerance: float = 1e-3,
    opset: int | None = None,
    outputs: Outputs | None = None,
) -> ExportCheck:
    """Write the model as one ONNX file with a free batch axis, and prove that it computes what PyTorch computes.

    A detector's file takes one image at a time and returns its boxes.

    The file has one input, ``input`` (batch, C, H, W), and ``output`` as the first of its outputs; weights are
    inside. What the exporter notes about the source code, paths included, is taken out. ``samples`` run through
    PyTorch and ONNX Runtime (CPU) all at once and one by one; only then does the file appear at ``path``.

    Args:
        model: The network; not changed, exported in evaluation mode from a copy on the CPU.
        path: Where the file goes; an existing file is replaced.
        samples: (N, C, H, W) preprocessed real inputs; their size is the size the file accepts.
        tolerance: Largest accepted difference, relative to the largest absolute PyTorch output.
        opset: ONNX opset; the exporter's default if ``None``.
        outputs: Which of the outputs holds scores of classes, if any; decided anew if ``None``.

    Returns:
        The differences found. With several outputs each is compared relative to its own largest value, and the
        worst counts. The top-1 agreement is of the output with scores of classes, ``None`` if there is none.
        Of a detector the scores of the boxes are compared; its agreement is the share of boxes that both find. That
        may be less than 95 % only where PyTorch itself loses about as many with 1e-5 of noise on the images: a
        detector that is not trained, or no longer, is so sensitive.

    Raises:
        DataError: ``samples`` is empty, not (N, C, ...) of float32 or float16, or not finite.
        ModelError: PyTorch itself cannot run the model on ``samples``.
        ExportError: The model cannot be exported, fixes its batch size, exceeds 2 GiB, or the file is invalid,
            cannot be run or differs by more than ``tolerance``. No file is written.
        OutputError: The file cannot be written.
    """
    if samples.ndim < 2 or len(samples) == 0 or samples.dtype not in {torch.float32, torch.float16}:
        raise DataError(
            f"the export check needs float32 samples of shape (N, C, ...); got {tuple(samples.shape)}, {samples.dtype}"
        )
    if not torch.isfinite(samples).all():
        raise DataError("NaN or infinity among the samples of the export check")
    size = sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))
    if size > SINGLE_FILE_LIMIT:
        raise ExportError(
            f"the weights take {size / 2**30:.1f} GiB; one ONNX file holds at most 2 GiB",
            hint="Remove more filters, or convert the model to half precision first.",
        )
    exported = copied(model).cpu()
    samples = samples.detach().cpu()
    # One sample would make the tracer take the batch axis for a constant 1.
    batch = samples if len(samples) > 1 else torch.cat([samples, samples])
    with evaluating(exported):
        try:
            output = run_forward(exported, batch)
        except ModelError as error:
            if samples.ndim == 4:
                raise
            raise DataError(f"samples of shape {tuple(samples.shape)}: {error.what}", hint=error.hint) from error
        proto = to_onnx(exported, batch[:2], opset)
    with atomic_file(path) as temporary:
        onnx.save(proto, temporary)
        _validate(temporary)
        session = open_session(temporary, name=Path(path).name)
        if (boxes := boxes_of(output)) is not None:
            found = _box_parity(session, batch, boxes, exported)
            tolerance = math.inf  # boxes have been compared one by one
        else:
            chosen = outputs_of(exported, batch) if outputs is None else outputs
            found = _parity(session, batch, all_outputs(output), exported, chosen)
        _judge(found, tolerance)
    return ExportCheck(
        samples=len(samples),
        max_abs=found.max_abs,
        max_rel=found.max_rel,
        top1_agreement=found.top1_agreement,
        opset=opset_of(proto),
        stability=found.stability,
    )


@dataclass(frozen=True, kw_only=True)
class _Difference:
    max_abs: float
    max_rel: float
    top1_agreement: float | None
    finite: bool
    stability: float | None = None


def open_session(path: Path, options: ort.SessionOptions | None = None, *, name: str = "") -> ort.InferenceSession:
    """Load an ONNX file for the CPU; ``name`` is what errors call it.

    Raises:
        ExportError: ONNX Runtime cannot load it.
    """
    if options is None:
        options = ort.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised; warnings on stderr would break a progress bar
    with border(lambda why: ExportError(f"ONNX Runtime cannot load {name or path.name}: {why}")):
        return ort.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])


def run_session(session: ort.InferenceSession, inputs: NDArray[Any]) -> list[NDArray[Any]]:
    """Run one batch.

    Raises:
        ExportError: ONNX Runtime refuses the batch or fails on it.
    """
    hint = "Inputs must have the size that the file was exported with."
    what = f"ONNX Runtime cannot run a batch of shape {inputs.shape}"
    with border(lambda why: ExportError(f"{what}: {why}", hint=hint)):
        outputs: list[NDArray[Any]] = session.run(None, fed(session.get_inputs(), inputs))
    return outputs


def _validate(path: Path) -> None:
    try:
        onnx.checker.check_model(os.fspath(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the exported file is no valid ONNX model: {first_line(error)}") from error


def _parity(
    session: ort.InferenceSession, batch: Tensor, expected: list[Tensor], model: nn.Module, outputs: Outputs
) -> _Difference:
    whole = [each.numpy() for each in expected]
    together = run_session(session, batch.numpy())
    singles = [run_session(session, sample[np.newaxis]) for sample in batch.numpy()]
    shapes = [each.shape for each in whole]
    if [each.shape for each in singles[0]] != shapes and any(
        one.shape == shape for one, shape in zip(singles[0], shapes, strict=False)
    ):  # what has no entry per sample, such as a mean of all, is another number for each
        with evaluating(model):
            alone = [[each.numpy() for each in all_outputs(run_forward(model, sample[None]))] for sample in batch]
        pairs = [(given, wanted) for given, wanted in zip(singles, alone, strict=True)]
    else:
        parts = zip(zip(*singles, strict=True), shapes, strict=False)
        pairs = [([_put_together(each, shape) for each, shape in parts], whole)]
    found = [_compare(together, whole, "at once", outputs)]
    found += [_compare(given, wanted, "one by one", outputs) for given, wanted in pairs]
    shares = [each.top1_agreement for each in found if each.top1_agreement is not None]
    return _Difference(
        max_abs=max(each.max_abs for each in found),
        max_rel=max(each.max_rel for each in found),
        top1_agreement=min(shares, default=None),
        finite=all(each.finite for each in found),
    )


def _put_together(parts: Sequence[NDArray[Any]], wanted: tuple[int, ...]) -> NDArray[Any]:
    """What was given for one sample after the other, as if it had been given for all at once."""
    shape = parts[0].shape
    if shape == wanted:  # the same whatever the samples, such as anchors
        return max(parts, key=lambda part: float(np.abs(part - parts[0]).max(initial=0.0)))
    if not shape:
        return np.stack(parts)
    axes = [axis for axis, (one, all_) in enumerate(zip(shape, wanted, strict=False)) if (one, all_) == (1, len(parts))]
    return np.concatenate(parts, axis=axes[0] if axes else 0)


def _compare(given: list[NDArray[Any]], expected: list[NDArray[Any]], how: str, outputs: Outputs) -> _Difference:
    shapes, wanted = [each.shape for each in given], [each.shape for each in expected]
    if shapes != wanted:
        raise ExportError(
            f"run {how}, the samples give outputs of shapes {shapes} in ONNX Runtime, {wanted} in PyTorch"
        )
    max_abs = max_rel = 0.0
    agreement, finite = None, True
    scores = outputs.compared[0].index if outputs.classes is not None else None
    for index, (output, reference) in enumerate(zip(given, expected, strict=True)):
        finite = finite and bool(np.isfinite(output).all() and np.isfinite(reference).all())
        with np.errstate(invalid="ignore"):  # infinity minus infinity; reported as non-finite
            difference = float(np.abs(output.astype(np.float64) - reference).max())
        scale = float(np.abs(reference).max())
        max_abs = max(max_abs, difference)
        max_rel = max(max_rel, difference / scale if scale else float(difference > 0) * np.inf)
        if index == scores:
            both = (outputs.decided(torch.from_numpy(each)) for each in (output, reference))
            agreement = float(torch.eq(*both).double().mean())
    return _Difference(max_abs=max_abs, max_rel=max_rel, top1_agreement=agreement, finite=finite)


def _box_parity(session: ort.InferenceSession, batch: Tensor, expected: list[Boxes], model: nn.Module) -> _Difference:
    """The boxes both find. What is found with a low score says little: near a threshold any difference decides."""
    names = [each.name for each in session.get_outputs()]
    found: list[Boxes] = []
    for image in batch.numpy():
        named = dict(zip(names, run_session(session, image[np.newaxis]), strict=True))
        found.append(Boxes(corners=named["boxes"], scores=named["scores"], labels=named["labels"]))
    finite = all(bool(np.isfinite(each.corners).all()) for each in (*found, *expected))
    agreement, max_abs = _in_common(expected, found)
    stability, _ = _in_common(expected, _nudged(model, batch))
    if agreement < min(_SAME_BOXES, max(1 - _MORE_LOST * (1 - stability), stability / 2)):
        raise ExportError(
            f"ONNX Runtime and PyTorch have only {agreement:.1%} of the boxes they find in common; PyTorch alone keeps "
            f"{stability:.1%} where pixels change by {_NUDGE:g} of their range",
            hint="The exporter does not render this detector as it is; another release of torch may.",
        )
    max_rel = max_abs / max(*(float(each.scores.max(initial=0.0)) for each in expected), 1e-12)
    return _Difference(max_abs=max_abs, max_rel=max_rel, top1_agreement=agreement, finite=finite, stability=stability)


def _in_common(expected: list[Boxes], found: list[Boxes]) -> tuple[float, float]:
    """Share in 0..1 of all boxes that both have with about the same score, and the largest difference of theirs."""
    differences, boxes = [], 0
    for wanted, given in zip(expected, found, strict=True):
        one, other = wanted.certain(), given.certain()
        boxes += len(one.scores) + len(other.scores)
        differences += [abs(float(one.scores[mine] - other.scores[its])) for mine, its in common(one, other)]
    close = [each for each in differences if each <= _SAME_SCORE]
    return 2 * len(close) / boxes if boxes else 1.0, max(close, default=0.0)


def _nudged(detector: nn.Module, batch: Tensor) -> list[Boxes]:
    """What a detector finds in images with a little noise on them."""
    noise = torch.rand(batch.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with evaluating(detector):
        return boxes_of(run_forward(detector, batch + _NUDGE * (batch.max() - batch.min()) * noise)) or []


def _judge(found: _Difference, tolerance: float) -> None:
    if not found.finite:
        raise ExportError(
            "the model's outputs hold NaN or infinity, in PyTorch or in ONNX Runtime",
            hint="Check the weights, and that inputs are normalised as in training (--mean, --std).",
        )
    if not found.max_rel <= tolerance:
        raise ExportError(
            f"the ONNX file differs from PyTorch by {found.max_rel:.2e} relative ({found.max_abs:.2e} absolute); "
            f"the tolerance is {tolerance:.2e}",
            hint="Accept it with a larger tolerance only if "
            + ("that is" if found.top1_agreement is None else f"the top-1 agreement ({found.top1_agreement:.1%}) is")
            + " good enough.",
        )
