"""ONNX files in 16 bits: weights and computation in float16, inputs and outputs in float32."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization.onnx_model import ONNXModel

from topocompress.deploy.export import open_session, run_session
from topocompress.errors import ExportError
from topocompress.runtime.borders import border
from topocompress.runtime.files import atomic_file
from topocompress.runtime.temporary import scratch_folder

_HINT = "Leave out --half and ship the file in 32 bits."
_LARGEST = 65_504.0
"""Number of float16."""


def halve_onnx(path: str | os.PathLike[str], out: str | os.PathLike[str], *, samples: NDArray[Any]) -> None:
    """Write an ONNX file that computes in float16, by ONNX Runtime's converter.

    Weights that float16 cannot say become the nearest that it can. Operators that need 32 bits, such as the resizing
    and the choice of boxes, keep them. Where what is computed on the way to the outputs is too large for float16, there
    is no file: not every processor would show it, for ONNX Runtime computes in 32 bits where it can do no better.

    Args:
        path: An ONNX file in 32 bits.
        out: Where the new file goes; an existing one is replaced.
        samples: (N, C, H, W) inputs, float32; each is run by itself.

    Raises:
        ExportError: The file cannot be converted, its numbers are too large, or the result cannot be run.
        OutputError: The file cannot be written.
    """
    name = Path(path).name
    with border(lambda why: ExportError(f"{name} cannot be converted to 16 bits: {why}", hint=_HINT)):
        whole = onnx.load(path, load_external_data=False)
        _check_range(whole, name, samples)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of numbers that float16 cannot say; what they cost is measured
            proto = _converter()(whole, keep_io_types=True)
        ordered = ONNXModel(proto)
        ordered.topological_sort()  # the casts of inputs and outputs stand at the end
    with atomic_file(out) as temporary:
        onnx.save(ordered.model, temporary)
        open_session(temporary, name=Path(out).name)


def _check_range(whole: onnx.ModelProto, name: str, samples: NDArray[Any]) -> None:
    """Refuse a network that computes numbers beyond float16."""
    seen = onnx.ModelProto()
    seen.CopyFrom(whole)
    known = {each.name for each in seen.graph.output}
    inner = [each for each in seen.graph.value_info if each.type.tensor_type.elem_type == onnx.TensorProto.FLOAT]
    seen.graph.output.extend(each for each in inner if each.name not in known)
    with scratch_folder() as folder:
        onnx.save(seen, folder / "seen.onnx")
        session = open_session(folder / "seen.onnx", name=name)
        for sample in samples:
            for found in run_session(session, sample[None]):
                largest = float(np.abs(found).max(initial=0.0)) if found.dtype == np.float32 else 0.0
                if largest > _LARGEST:
                    raise ExportError(
                        f"{name} computes numbers up to {largest:.3g}, and float16 ends at {_LARGEST:,.0f}", hint=_HINT
                    )


def _converter() -> Callable[..., Any]:
    """Importing it puts a folder on ``sys.path`` whose modules would hide others."""
    before = list(sys.path)
    try:
        from onnxruntime.transformers.float16 import convert_float_to_float16
    finally:
        sys.path[:] = before
    converter: Callable[..., Any] = convert_float_to_float16
    return converter
