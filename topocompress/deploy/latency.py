"""How long ONNX files take and how much memory: in turn in one process, and each in a fresh one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from topocompress.deploy.export import open_session, run_session
from topocompress.errors import DataError, ExportError
from topocompress.network.inputs import fed
from topocompress.runtime.temporary import scratch_folder
from topocompress.types import Latency

MINIMUM_RUNS = 5
"""Runs counted per file and batch size even when the time budget is spent."""
_CERTAIN_RUNS, _PRECISION = 10, 0.02
"""Counting ends early once the files' ratio is known this well, after as many runs as say something of their spread."""
_WARM = 0.5
"""Seconds of warming up after which two rounds of it are enough."""


@dataclass(frozen=True, kw_only=True)
class FreshRun:
    """What the first answer of a fresh process takes, once Python and ONNX Runtime are imported.

    Attributes:
        peak_bytes: Peak resident memory of the process, bytes; ``None`` if this system does not tell.
        load_ms: Loading the file, milliseconds.
        first_ms: The first inference, milliseconds.
    """

    peak_bytes: int | None
    load_ms: float
    first_ms: float


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

    Counting ends before all runs, though not before the tenth, once the median of what a file takes beside the first
    is known to two percent (95 % confidence, from the order of the runs' ratios; of a single file its own median).
    ``Latency.runs`` says how many there were.

    Args:
        paths: The files; all are loaded at once.
        sample: (1, C, H, W) input, repeated to each batch size.
        batch_sizes: Samples per inference.
        runs: Counted inferences per file and batch size, at least 1.
        warmup: Inferences before counting starts.
        threads: Threads of each file's inference; ONNX Runtime's default (one per core) if ``None``.
        max_seconds: Time budget per batch size, over all files and warm-up included; once it is spent, counting ends
            after :data:`MINIMUM_RUNS` runs of each.

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
        for result, times in zip(results, time_in_turn(sessions, inputs, runs, warmup, max_seconds), strict=True):
            median, p95 = np.percentile(times, (50, 95))
            each = tuple(round(time_ms, 3) for time_ms in times)
            result.append(
                Latency(batch=batch, median_ms=float(median), p95_ms=float(p95), runs=len(times), times_ms=each)
            )
    return [tuple(result) for result in results]


def time_in_turn(
    sessions: Sequence[ort.InferenceSession], inputs: NDArray[Any], runs: int, warmup: int, max_seconds: float
) -> list[list[float]]:
    """Milliseconds per session and counted round; each round starts with the next session.

    Args:
        sessions: Of files with the same input.
        inputs: One batch.
        runs: Counted rounds at most.
        warmup: Rounds before counting starts.
        max_seconds: After which counting ends, with :data:`MINIMUM_RUNS` rounds at least.
    """
    times: list[list[float]] = [[] for _ in sessions]
    begun = time.perf_counter()
    for turn in range(-warmup, runs):
        spent = time.perf_counter() - begun
        if turn < 0 and ((spent > max_seconds and turn != -warmup) or (spent > _WARM and turn > 1 - warmup)):
            continue  # warm enough where each round takes that long
        if (turn >= MINIMUM_RUNS and spent > max_seconds) or (turn >= _CERTAIN_RUNS and known(times)):
            break
        for offset in range(len(sessions)):
            index = (turn + offset) % len(sessions)
            started = time.perf_counter_ns()
            run_session(sessions[index], inputs)
            if turn >= 0:
                times[index].append((time.perf_counter_ns() - started) / 1e6)
    return times


def known(times: Sequence[Sequence[float]]) -> bool:
    """Whether the median time of each file beside the first, or of a single one, is known to two percent.

    Args:
        times: Per file its times, run by run.
    """
    measured = np.asarray(times)
    ratios = np.sort(measured[1:] / measured[0] if len(measured) > 1 else measured, axis=1)
    runs = ratios.shape[1]
    # 95 % interval of a median: between the order statistics that a fair coin's heads stay between.
    low = int((runs - 1.96 * runs**0.5) / 2)
    spread = ratios[:, runs - 1 - low] - ratios[:, low]
    return bool((spread / 2 <= _PRECISION * np.median(ratios, axis=1)).all())


def fresh_run(path: Path, *, sample: NDArray[Any], batch: int = 1, threads: int = 0) -> FreshRun:
    """Load an ONNX file in a process of its own and run one batch.

    Args:
        path: The ONNX file.
        sample: (1, C, H, W) input, repeated to the batch size.
        batch: Samples in the batch.
        threads: Of ONNX Runtime; 0 for one per core.

    Raises:
        ExportError: The process failed: the file cannot be loaded or run.
    """
    script = Path(__file__).with_name("_inference_process.py")
    with scratch_folder() as folder:
        whole = np.repeat(sample, batch, axis=0)
        several = sample.ndim == 3  # packed, or a signal
        parts = list(fed(open_session(path).get_inputs(), whole).values()) if several else [whole]
        inputs = [os.fspath(Path(folder, f"input{number}.npy")) for number in range(len(parts))]
        for file, part in zip(inputs, parts, strict=True):
            np.save(file, part)
        files = [os.fspath(script), os.fspath(Path(path).absolute()), *inputs]
        # -P keeps the script's folder off sys.path, where our types.py would hide the standard library's.
        command = [sys.executable, "-P", *files, str(threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise ExportError(f"the inference process failed on {Path(path).name}: {lines[-1]}")
    return FreshRun(**json.loads(done.stdout))


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
    return fresh_run(path, sample=sample, batch=batch).peak_bytes
