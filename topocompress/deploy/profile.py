"""Where the time of an inference goes, layer by layer, from ONNX Runtime's own profile."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from topocompress.deploy.export import open_session, run_session
from topocompress.runtime.temporary import scratch_folder
from topocompress.types import NodeTimes

_PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_LAYOUTS = {"ReorderInput", "ReorderOutput"}
_KERNEL = "_kernel_time"
_BLOCKED = "_nchwc"
"""What ONNX Runtime appends to the value that a convolution gives when it moves it to its blocked memory layout."""


def profile(paths: Sequence[Path], *, sample: NDArray[Any], batch: int = 1, runs: int = 10) -> tuple[NodeTimes, ...]:
    """Where the time goes in ONNX files that :func:`topocompress.export_onnx` wrote; they are run in turn.

    Args:
        paths: The files.
        sample: (1, C, H, W) input, repeated to the batch size.
        batch: Samples per inference.
        runs: Inferences counted per file, after two that are not.

    Returns:
        One per file. A fused activation belongs to the layer before it.

    Raises:
        ExportError: A file cannot be loaded or run.
    """
    inputs = np.repeat(sample, batch, axis=0)
    with scratch_folder() as folder:
        sessions = [open_session(path, _options(Path(folder, str(place)))) for place, path in enumerate(paths)]
        for turn in range(runs + 2):
            for offset in range(len(sessions)):
                run_session(sessions[(turn + offset) % len(sessions)], inputs)
        files = [Path(session.end_profiling()) for session in sessions]
        events = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return tuple(_sum(found, layer_names(path), runs) for found, path in zip(events, paths, strict=True))


def _options(prefix: Path) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.add_session_config_entry("session.force_spinning_stop", "1")  # as in compare_latency
    options.inter_op_num_threads = 1
    options.enable_profiling = True
    options.profile_file_prefix = str(prefix)
    return options


def _sum(events: Sequence[Any], names: dict[str, str], runs: int) -> NodeTimes:
    """Milliseconds per layer: medians over the last runs of each node, added up."""
    nodes: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            key = (event["name"].removesuffix(_KERNEL), event["args"]["op_name"])
            nodes.setdefault(key, []).append(event["dur"] / 1000)
    layers: dict[str, float] = {}
    layout = rest = 0.0
    for (node, kind), times in nodes.items():
        per_run = len(times) // (runs + 2)  # nodes that ONNX Runtime inserts can share one name
        median = statistics.median(times[2 * per_run :]) * per_run
        product = kind.removeprefix("Fused") in _PRODUCTS
        name = names.get(node.partition("/")[0]) if product else None  # behind "/" stands what was fused into it
        if name is not None:
            layers[name] = layers.get(name, 0.0) + median
        elif kind in _LAYOUTS:
            layout += median
        else:
            rest += median
    return NodeTimes(layers=layers, layout=layout, rest=rest)


def layer_names(path: Path) -> dict[str, str]:
    """Node as ONNX Runtime's profile names it → module, for all nodes that compute with a module's weight.

    A blocked convolution is named after its output, or that of the activation that is fused into it; others keep
    their names. A product with a nameless weight is known by the bias that is added to it.
    """
    graph = onnx.load(path).graph
    makers = {output: node for node in graph.node for output in node.output}
    own = {tensor.name: tensor.name.rpartition(".") for tensor in graph.initializer}

    def module(value: str, kind: str) -> str | None:
        """The module whose weight or bias a value is, as it is or transposed."""
        name, _, last = own.get(value, ("", "", ""))
        if name and last == kind:
            return str(name)
        maker = makers.get(value)
        return module(maker.input[0], kind) if maker is not None and maker.op_type == "Transpose" else None

    biased: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "Add":
            for value, other in (node.input, reversed(node.input)):
                if (name := module(other, "bias")) is not None:
                    biased[value] = name
    found: dict[str, str] = {}
    owners: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in _PRODUCTS:
            owner = next((name for value in node.input if (name := module(value, "weight"))), None)
            owner = owner or biased.get(node.output[0])
            if owner is not None:
                found[node.name] = owner
        else:
            owner = owners.get(node.input[0]) if len(node.input) == 1 or node.op_type == "Clip" else None
        if owner is not None:
            owners[node.output[0]] = owner
            found[node.output[0] + _BLOCKED] = owner
    return found
