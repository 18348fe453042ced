"""PyTorch modules as ONNX graphs, by torch's exporters, with nothing of this machine in them."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import re
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.onnx.errors import OnnxExporterError

from topocompress.errors import ExportError
from topocompress.network.detectors import is_detector
from topocompress.network.inference import all_outputs, first_line, named_outputs, run_forward
from topocompress.network.inputs import arguments, parts_taken, unpacked
from topocompress.types import InputPart


def to_onnx(model: nn.Module, example: Tensor, opset: int | None) -> onnx.ModelProto:
    """The graph of a module, with weights, one input called ``input`` and ``output`` as the first of its outputs.

    The batch axis is free. A detector is exported for one image at a time, with its postprocessing; its outputs are
    called as the detector calls them (``boxes``, ``scores``, ``labels``, ...).

    Args:
        model: On the CPU, in evaluation mode; not changed.
        example: (2, C, H, W) input.
        opset: ONNX opset; the exporter's default if ``None``.

    Raises:
        ExportError: It cannot be exported, or fixes its batch size.
    """
    proto = _traced(model, example[:1], opset) if is_detector(model) else _exported(model, example, opset)
    if opset is not None and opset_of(proto) != opset:
        raise ExportError(
            f"the exporter cannot write this model in ONNX opset {opset}; it would be {opset_of(proto)}",
            hint=f"Use opset {opset_of(proto)}.",
        )
    _strip(proto)
    return proto


def opset_of(proto: onnx.ModelProto) -> int:
    """Version of the standard operators in a graph."""
    return next(int(entry.version) for entry in proto.opset_import if entry.domain in {"", "ai.onnx"})


def _exported(model: nn.Module, example: Tensor, opset: int | None) -> onnx.ModelProto:
    found, parts, free = run_forward(model, example), parts_taken(model), {0: torch.export.Dim("batch")}
    given = tuple(unpacked(parts, example).values()) if parts else (example,)
    shapes = ((free,) * len(given),) if parts else (free,)
    options: dict[str, Any] = {
        "dynamo": True,
        "input_names": [part.name for part in parts] or ["input"],
        "output_names": output_names(found),
        "opset_version": opset,
        "verbose": False,
    }
    try:
        with _silence(), _on_tensors_alone(model, found, parts) as exported:
            program = torch.onnx.export(exported, given, dynamic_shapes=shapes, **options)
            if program is not None and not _batch_of(program.model_proto).dim_param:
                with contextlib.suppress(Exception):  # read from the code, where ``len(x)`` stays a batch of any size
                    read = torch.export.export(exported, given, dynamic_shapes=shapes, strict=True)
                    program = torch.onnx.export(read, given, **options)
    except OnnxExporterError as error:  # the exporter wraps whatever goes wrong in it, the model's own errors included
        raise ExportError(
            f"the model cannot be exported to ONNX: {_reason(error)}",
            hint="Control flow that depends on values, and operators that ONNX lacks, must be rewritten in the model.",
        ) from error
    if program is None:
        raise ExportError("the ONNX exporter returned nothing")
    proto: onnx.ModelProto = program.model_proto
    axis = _batch_of(proto)
    if not axis.dim_param:  # where the plain trace fails, the exporter falls back to one with constants in it
        raise ExportError(
            f"the model computes with a fixed batch size; it was exported for batches of {axis.dim_value} only",
            hint="In its forward, take the batch size from x.shape[0] without int(), comparisons or stored tensors.",
        )
    return proto


def _batch_of(proto: onnx.ModelProto) -> Any:
    """The axis of samples."""
    return next(each for each in proto.graph.input if each.type.tensor_type.shape.dim).type.tensor_type.shape.dim[0]


@contextlib.contextmanager
def _on_tensors_alone(model: nn.Module, output: Any, parts: Sequence[InputPart]) -> Iterator[nn.Module]:
    """The network with a forward that takes and returns tensors only: exporters know no objects, numbers and texts.

    It stays the same module, so that its weights keep their names, and has its own forward again on the way out.

    Args:
        model: The caller's own copy.
        output: What it returns; where that is no more than tensors in tuples, lists and dicts, it may stay.
        parts: What it takes, one after the other, where it takes several tensors.
    """
    before, inner = vars(model).get("forward"), model.forward

    @functools.wraps(inner)
    def returning(*args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        return tuple(all_outputs(inner(*args, **kwargs)))

    plain = inner if _plain(output) else returning

    def taking(*tensors: Tensor) -> Any:
        args, kwargs = arguments(parts, dict(zip((part.name for part in parts), tensors, strict=True)))
        return plain(*args, **kwargs)

    if parts or plain is returning:
        model.forward = taking if parts else plain
    try:
        yield model
    finally:
        vars(model).pop("forward", None)
        if before is not None:
            model.forward = before


def _plain(output: Any) -> bool:
    if isinstance(output, Tensor):
        return True
    if type(output) in (tuple, list):
        return all(map(_plain, output))
    return type(output) in (dict, OrderedDict) and all(map(_plain, output.values()))


def output_names(output: Any) -> list[str]:
    """What the outputs of a file are called: ``output`` for one, or the first of a tuple; else as the network does.

    Those of a tuple are ``output``, ``output_1``, ...; keys and fields are joined with underscores.
    """
    pairs = named_outputs(output)
    if len(pairs) == 1:
        return ["output"]
    names: list[str] = []
    for name, _ in pairs:
        plain = re.sub(r"\W+", "_", name)
        plain = f"output_{plain}" if plain[:1].isdigit() else plain
        plain = "output" if plain == "output_0" else plain
        while plain in (*names, "input"):
            plain += "_"
        names.append(plain)
    return names


def _traced(detector: nn.Module, example: Tensor, opset: int | None) -> onnx.ModelProto:
    """A detector by the exporter that records a run: how many boxes there are cannot be told from the graph alone."""
    (found,) = run_forward(detector, example)
    written = io.BytesIO()
    try:
        with _silence():
            torch.onnx.export(
                detector,
                (example,),
                written,  # type: ignore[arg-type]  # declared for the other exporter only
                dynamo=False,
                input_names=["input"],
                output_names=list(found),
                dynamic_axes={name: {0: "found"} for name in found},
                opset_version=opset,
            )
    except (OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
        raise ExportError(f"the detector cannot be exported to ONNX: {first_line(error)}") from error
    return onnx.load_model_from_string(written.getvalue())


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter off the terminal, for the time of the export only.

    It prints graphs to stderr, logs (in some releases to the stderr it was imported under, and to handlers of the
    caller's, so that redirecting is not enough), and warns about its own internals, differently in each release;
    nothing of it helps a user. Errors still arrive as exceptions. stdout stays: a progress bar may be drawn there.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _strip(proto: onnx.ModelProto) -> None:
    """Remove stack traces and the like: they hold paths of this machine and make the same model differ in bytes."""
    graph = proto.graph
    for holder in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        holder.ClearField("metadata_props")
        holder.ClearField("doc_string")
    for function in proto.functions:
        function.ClearField("metadata_props")
        for node in function.node:
            node.ClearField("metadata_props")
            node.ClearField("doc_string")


def _reason(error: OnnxExporterError) -> str:
    """The cause, without the colours and the advice to open a ticket that surround it."""
    cause: BaseException = error
    while isinstance(cause, OnnxExporterError) and cause.__cause__ is not None:
        cause = cause.__cause__
    return re.sub(r"\x1b\[[0-9;]*m", "", f"{type(cause).__name__}: {first_line(cause)}")
