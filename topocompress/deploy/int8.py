"""ONNX files in 8 bits: static quantisation by ONNX Runtime, and what to think of the result."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from topocompress.deploy.export import ORT_ERRORS, open_session, run_session
from topocompress.errors import ExportError
from topocompress.network.capture import Batches
from topocompress.network.inference import batch_parts, first_line
from topocompress.network.inputs import fed
from topocompress.runtime.files import atomic_file
from topocompress.runtime.temporary import scratch_folder
from topocompress.types import Measurement, Quantized

_ERRORS: tuple[type[Exception], ...] = (*ORT_ERRORS, OSError, KeyError, TypeError, AttributeError, NotImplementedError)
"""What the quantiser, which is written in Python, raises on graphs it does not expect."""


def quantize_onnx(path: str | os.PathLike[str], out: str | os.PathLike[str], *, calibration: Batches) -> None:
    """Write an ONNX file whose convolutions and matrix products compute in 8 bits.

    Static quantisation in the QDQ format: weights in int8 with a scale per output channel, activations in uint8 with
    the range they have on the calibration samples. Weights use 7 of their bits, because processors without VNNI add
    pairs of products in 16 bits and would overflow with 8.

    Args:
        path: An ONNX file in 32 bits with one input.
        out: Where the new file goes; an existing one is replaced.
        calibration: Batches of inputs (B, C, H, W), alone or with labels.

    Raises:
        ExportError: ONNX Runtime cannot quantise the file, or cannot run the result.
        OutputError: The file cannot be written.
    """
    inputs = open_session(Path(path)).get_inputs()
    with scratch_folder() as folder, atomic_file(out) as temporary:
        prepared = folder / "prepared.onnx"
        try:
            with _silence():
                quant_pre_process(os.fspath(path), os.fspath(prepared), skip_symbolic_shape=True)
                quantize_static(
                    os.fspath(prepared),
                    os.fspath(temporary),
                    _Reader(inputs, calibration),
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    reduce_range=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                )
        except _ERRORS as error:
            raise ExportError(
                f"ONNX Runtime cannot quantise {Path(path).name}: {first_line(error)}",
                hint="Leave out --quantize and ship the file in 32 bits.",
            ) from error
        open_session(temporary, name=Path(out).name)


class OnnxNetwork(nn.Module):
    """An ONNX file as a network that can be evaluated like any other. It has no parameters and no gradients."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._session: ort.InferenceSession = open_session(path)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The output for (B, C, H, W) inputs, or all of them where there are several."""
        found = tuple(torch.from_numpy(each) for each in run_session(self._session, images.cpu().numpy()))
        return found[0] if len(found) == 1 else found


def judged(small: Measurement, pruned: Measurement, kind: str) -> Quantized:
    """What to think of the network in 8 bits (``INT8``) or in 16 (``FP16``), beside the same in 32."""
    faster = pruned.latency[0].median_ms / small.latency[0].median_ms
    shrunk = (pruned.file_bytes or 0) / max(1, small.file_bytes or 0)
    size = f"{shrunk:.1f}× smaller" if shrunk >= 1 else f"{1 / max(shrunk, 1e-9):.1f}× larger"
    what = "accuracy" if small.accuracy is not None else "agreement"
    if small.explained_variation is not None:
        what = "explained_variation"
    first, second = getattr(pruned, what) or 0.0, getattr(small, what) or 0.0
    quality = f"{what.replace('_', ' ')} {100 * second:.1f} % against {100 * first:.1f} %"
    if faster > 1:
        message = f"In {kind} the pruned network is {faster:.2f}× faster again and its file {size}; {quality}."
    else:
        message = (
            f"{kind} is {1 / faster:.2f}× slower than 32 bits on this processor: for such processors ship model.onnx."
            f" The {kind} file is {size}; {quality}."
        )
    return Quantized(measurement=small, kept=faster > 1, message=message)


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime's quantiser is not typed
    """Calibration batches in the form that ONNX Runtime asks for."""

    def __init__(self, inputs: Sequence[Any], batches: Batches) -> None:
        self._feeds: Iterator[dict[str, NDArray[Any]]] = (
            fed(inputs, batch_parts(batch)[0].cpu().numpy()) for batch in batches
        )

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next batch by input name; ``None`` when there is no more."""
        return next(self._feeds, None)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep advice on how to call the quantiser off the terminal."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
