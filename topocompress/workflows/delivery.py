"""The files that a run delivers, exported and measured beside the original's in one run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from topocompress.deploy.export import export_onnx
from topocompress.deploy.half import halve_onnx
from topocompress.deploy.int8 import OnnxNetwork, judged, quantize_onnx
from topocompress.deploy.latency import compare_latency, peak_memory
from topocompress.deploy.measurement import Predictions, count_macs, count_parameters, likenesses
from topocompress.deploy.profile import profile
from topocompress.errors import ExportError, ModelError
from topocompress.network.detectors import is_detector
from topocompress.network.inference import sample_count
from topocompress.reporting.bottlenecks import short_batches, warning
from topocompress.types import Delivery, Latency, Measurement
from topocompress.workflows.job import Job
from topocompress.workflows.single_steps import layer_costs

MODEL_FILE = "model.onnx"
ORIGINAL_FILE = "original.onnx"
"""The unpruned network, to compare with; a run is whole without it."""
INT8_FILE = "model.int8.onnx"
HALF_FILE = "model.fp16.onnx"

FILE_OF = {"INT8": INT8_FILE, "FP16": HALF_FILE}
"""Files in fewer bits, as :func:`~topocompress.types.in_fewer_bits` calls them."""
_PARITY_SAMPLES, _LEAST_PARITY, _PARITY_WORK = 32, 8, 5e10
"""Samples on which files are held against PyTorch: fewer, down to the least, of a network with many operations."""
_LATENCY_BATCHES = (1, 8)


def deliver(
    job: Job,
    directory: Path,
    original: tuple[nn.Module, Predictions],
    finished: tuple[nn.Module, Predictions],
    *,
    int8: bool = False,
    half: bool = False,
) -> Delivery:
    """Write the networks' files into a directory and measure the finished one's beside the original's.

    Args:
        job: The samples.
        directory: Where :data:`MODEL_FILE` goes, the original beside it, :data:`INT8_FILE` and :data:`HALF_FILE`.
        original: The original and what it says of the held-out samples.
        finished: The same of the finished network.
        int8: Whether a file in 8 bits is wanted as well.
        half: Whether one in 16 bits is.

    Raises:
        ExportError: A network cannot be exported, or its file differs from it.
    """
    evaluation = job.data.evaluation
    wanted = min(_PARITY_SAMPLES, max(_LEAST_PARITY, int(_PARITY_WORK / max(1, job.macs))))
    images = torch.stack([evaluation[index][0] for index in range(min(wanted, sample_count(evaluation)))])
    sample = images[:1].numpy()
    paths = [directory / ORIGINAL_FILE, directory / MODEL_FILE]
    with job.timed("export", traces=True):
        job.progress("exporting", 0, 2)
        export_onnx(original[0], paths[0], samples=images, opset=job.opset, outputs=job.outputs)
        job.progress("exporting", 1, 2)
        check = export_onnx(finished[0], paths[1], samples=images, opset=job.opset, outputs=job.outputs)
        job.progress("exporting", 2, 2)
    smaller, failed = _smaller(job, directory, images[:_LEAST_PARITY], int8=int8, half=half)
    paths += [directory / FILE_OF[kind] for kind in smaller]
    for path in paths:
        network = original[0] if path.name == ORIGINAL_FILE else finished[0]
        job.describe_file(path, network)
    with job.timed("measure"):
        job.progress("measuring latency and memory", 0, 1)
        batches = (1,) if is_detector(original[0]) else _LATENCY_BATCHES
        latencies = compare_latency(paths, sample=sample, batch_sizes=batches)
        peaks = [peak_memory(path, sample=sample) for path in paths]
        job.progress("measuring latency and memory", 1, 1)

    def side(index: int, model: nn.Module, found: Predictions) -> Measurement:
        return _measurement(job, model, paths[index], (original[1], found), latencies[index], peaks[index])

    before, after = side(0, *original), side(1, *finished)
    found = {
        kind: judged(side(index, finished[0], said), after, kind)
        for index, (kind, said) in enumerate(smaller.items(), 2)
    }
    slow = ""
    if short := short_batches(before, after):
        with job.timed("measure"):
            costs = (layer_costs(original[0], job.example), layer_costs(finished[0], job.example))
            times = profile(tuple(paths[:2]), sample=sample, batch=next(iter(short)))
            fewer, auto = before.macs / max(1, after.macs), job.removal.round_to == "auto"
            slow = warning(short, fewer, costs, (times[0], times[1]), auto=auto)
    return Delivery(
        before=before,
        after=after,
        export=check,
        quantized=found.get("INT8"),
        half=found.get("FP16"),
        slow=slow,
        failed=failed,
    )


def _smaller(
    job: Job, directory: Path, images: Tensor, *, int8: bool, half: bool
) -> tuple[dict[str, Predictions], str]:
    """Write the files in fewer bits; returns what each says of the held-out samples, and why there is none of a kind.

    The run goes on without it.
    """
    model = directory / MODEL_FILE
    writers: dict[str, Callable[[Path], None]] = {}
    if int8:
        writers["INT8"] = lambda path: quantize_onnx(model, path, calibration=job.calibration)
    if half:
        writers["FP16"] = lambda path: halve_onnx(model, path, samples=images.numpy())
    found: dict[str, Predictions] = {}
    failed = []
    for kind, write in writers.items():
        path = directory / FILE_OF[kind]
        try:
            with job.timed("quantize"):
                job.progress("quantising", 0, 1)
                write(path)
                job.progress("quantising", 1, 1)
            found[kind] = job.evaluated(OnnxNetwork(path), f"evaluating the network in {kind}")
        except (ExportError, ModelError) as error:
            path.unlink(missing_ok=True)
            failed.append(f"There is no {kind} file: {error.what}.")
    return found, " ".join(failed)


def _measurement(
    job: Job,
    model: nn.Module,
    path: Path,
    said: tuple[Predictions, Predictions],
    latency: tuple[Latency, ...],
    peak: int | None,
) -> Measurement:
    return Measurement(
        parameters=count_parameters(model),
        macs=job.macs if model is job.model else count_macs(model, job.example),
        file_bytes=path.stat().st_size,
        accuracy=said[1].accuracy,
        metric=said[1].metric,
        **likenesses(*said),
        latency=latency,
        peak_bytes=peak,
    )
