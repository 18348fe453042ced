"""ONNX files against each other on this CPU: interleaved runs, and how sure the ratio of their times is."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from topocompress.deploy.export import open_session
from topocompress.deploy.latency import FreshRun, fresh_run, time_in_turn
from topocompress.errors import DataError, ExportError
from topocompress.runtime.files import check_there
from topocompress.runtime.resources import available_memory, cores
from topocompress.types.networks import MOST_PIXELS

RESAMPLES, CONFIDENCE = 2000, 0.95
_OF_INPUTS = 4
"""Times the memory of its inputs that timing a batch takes at least: they are repeated, copied in, computed on."""
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
}


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One file at one batch size.

    Attributes:
        batch: Samples per inference.
        median_ms: Median over the runs, milliseconds.
        p95_ms: 95th percentile, milliseconds.
        runs: Counted runs, after warm-up.
        speedup: Median time of the first file by that of this one; above 1 where this one is faster.
        low: Lower end of the 95 % interval of ``speedup``.
        high: Upper end.
    """

    batch: int
    median_ms: float
    p95_ms: float
    runs: int
    speedup: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class BenchedFile:
    """Everything found out about one file.

    Attributes:
        path: As given.
        file_bytes: Its size.
        fresh: Its first answer in a process of its own: time and peak memory.
        timings: One per batch size that the file takes.
        fixed_batch: The one batch size that it takes, if it was exported so.
    """

    path: str
    file_bytes: int
    fresh: FreshRun
    timings: tuple[Timing, ...]
    fixed_batch: int | None


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What :func:`bench` returns.

    Attributes:
        files: In the order given; ratios are to the first.
        threads: Threads of an inference.
        cpus: Numbers of the cores that they were kept on; empty where the system cannot do that.
        provider: Execution provider that ran.
        available: Execution providers that this ONNX Runtime has.
        warmup: Rounds before counting.
    """

    files: tuple[BenchedFile, ...]
    threads: int
    cpus: tuple[int, ...]
    provider: str
    available: tuple[str, ...]
    warmup: int


def bench(
    paths: Sequence[str | os.PathLike[str]],
    *,
    batch_sizes: Sequence[int] = (1, 8),
    runs: int = 50,
    warmup: int = 5,
    threads: int | None = None,
    max_seconds: float = 60.0,
    input_size: tuple[int, int] | None = None,
    seed: int = 0,
    progress: Callable[[str, int, int], None] = lambda _step, _done, _total: None,
) -> Bench:
    """Time ONNX files of one input shape against each other on the CPU.

    All files run in turn, so that a busy moment hits all alike, on cores that are theirs alone as far as this process
    can tell. The interval of a ratio comes from resampling whole rounds (the percentile bootstrap, Efron 1979,
    doi:10.1214/aos/1176344552): what slowed a round down slowed it for both.

    Args:
        paths: The files, the one to compare with first.
        batch_sizes: Samples per inference.
        runs: Counted rounds per batch size, at least 1.
        warmup: Rounds before counting starts.
        threads: Threads of an inference; as many as there are cores if ``None``.
        max_seconds: Time budget per batch size.
        input_size: Height and width in pixels, where the files leave it open.
        seed: Of the inputs, which are noise, and of the resampling.
        progress: Called as ``progress(step, done, total)``.

    Raises:
        DataError: No file, impossible numbers, or files whose inputs differ.
        ExportError: A file cannot be loaded or run, or has other inputs than one batch of images.
    """
    if not paths:
        raise DataError("there is no file to time", hint="Give ONNX files, the one to compare with first.")
    if runs < 1 or warmup < 0 or any(batch < 1 for batch in batch_sizes) or (threads is not None and threads < 1):
        raise DataError(f"{runs} runs, batch sizes {list(batch_sizes)} and {threads} threads are not possible")
    if not 0 <= max_seconds < math.inf:
        raise DataError(f"--seconds {max_seconds} is no time", hint="Give 0 or more.")
    if input_size is not None and not all(1 <= side <= MOST_PIXELS for side in input_size):
        raise DataError(f"--input-size {input_size} is no size of images", hint=f"From 1 to {MOST_PIXELS} a side.")
    files = [Path(path) for path in paths]
    check_there(files)
    count = threads if threads is not None else cores()
    generator = np.random.default_rng(seed)
    with _pinned(count) as cpus:
        sessions = [_session(file, count) for file in files]
        shapes = [_input(session, file, input_size) for session, file in zip(sessions, files, strict=True)]
        if len({(shape[1:], kind) for shape, kind in shapes}) > 1:
            listed = ", ".join(f"{file.name} {shape[1:]}" for file, (shape, _) in zip(files, shapes, strict=True))
            raise DataError(f"the files take different inputs: {listed}", hint="Compare files of one network.")
        fixed = [shape[0] for shape, _ in shapes]
        sample = _noise((1, *shapes[0][0][1:]), shapes[0][1], generator)
        if (wanted := _OF_INPUTS * max(batch_sizes) * sample.nbytes) > available_memory():
            raise DataError(
                f"a batch of {max(batch_sizes)} of {sample.shape[1:]} takes {wanted / 1e9:.1f} GB and more",
                hint="Give smaller batches, --batch 1,8.",
            )
        times: list[dict[int, NDArray[np.float64]]] = [{} for _ in files]
        for done, batch in enumerate(batch_sizes):
            progress(f"timing batches of {batch}", done, len(batch_sizes))
            able = [index for index, only in enumerate(fixed) if only in (0, batch)]
            found = time_in_turn(
                [sessions[index] for index in able], np.repeat(sample, batch, axis=0), runs, warmup, max_seconds
            )
            for index, each in zip(able, found, strict=True):
                times[index][batch] = np.array(each)
        progress("timing", len(batch_sizes), len(batch_sizes))
        fresh = []
        for done, (file, only) in enumerate(zip(files, fixed, strict=True)):
            progress("starting fresh", done, len(files))
            fresh.append(fresh_run(file, sample=sample, batch=max(only, 1), threads=count))
        progress("starting fresh", len(files), len(files))
    return Bench(
        files=tuple(
            BenchedFile(
                path=str(file),
                file_bytes=file.stat().st_size,
                fresh=run,
                timings=tuple(
                    _timing(batch, measured, times[0].get(batch, measured), generator)
                    for batch, measured in per_batch.items()
                ),
                fixed_batch=only or None,
            )
            for file, run, per_batch, only in zip(files, fresh, times, fixed, strict=True)
        ),
        threads=count,
        cpus=cpus,
        provider=sessions[0].get_providers()[0],
        available=tuple(ort.get_available_providers()),
        warmup=warmup,
    )


def interval(
    first: NDArray[np.float64], second: NDArray[np.float64], generator: np.random.Generator
) -> tuple[float, float]:
    """95 % interval of median(first) / median(second), by resampling rounds.

    Args:
        first: (rounds,) times of the one file.
        second: (rounds,) times of the other in the same rounds.
        generator: Source of the resampling.
    """
    rounds = min(len(first), len(second))
    drawn = generator.integers(rounds, size=(RESAMPLES, rounds))
    ratios = np.median(first[drawn], axis=1) / np.median(second[drawn], axis=1)
    low, high = np.quantile(ratios, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return float(low), float(high)


def _timing(
    batch: int, times: NDArray[np.float64], first: NDArray[np.float64], generator: np.random.Generator
) -> Timing:
    low, high = interval(first, times, generator)
    return Timing(
        batch=batch,
        median_ms=float(np.median(times)),
        p95_ms=float(np.percentile(times, 95)),
        runs=len(times),
        speedup=float(np.median(first) / np.median(times)),
        low=low,
        high=high,
    )


def _session(file: Path, threads: int) -> ort.InferenceSession:
    try:
        return open_session(file, _options(threads))
    except ExportError as error:
        hint = "Give ONNX files: `topocompress prune` writes one, topocompress.export_onnx turns any network into one."
        raise ExportError(error.what, hint=hint) from error


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    # Idle threads of one file would go on spinning on the cores on which the next is being timed.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = threads
    return options


@contextlib.contextmanager
def _pinned(threads: int) -> Iterator[tuple[int, ...]]:
    """Keep this thread, and those it starts, on as many cores as there are threads; yields their numbers."""
    if not hasattr(os, "sched_setaffinity"):
        yield ()
        return
    before = os.sched_getaffinity(0)
    chosen = sorted(before)[:threads]
    os.sched_setaffinity(0, chosen)
    try:
        yield tuple(chosen)
    finally:
        os.sched_setaffinity(0, before)


def _input(session: ort.InferenceSession, file: Path, size: tuple[int, int] | None) -> tuple[tuple[int, ...], str]:
    """Shape of a file's one input, 0 for a free batch size, and its type."""
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in _TYPES:
        listed = ", ".join(f"{each.name} {each.shape} {each.type}" for each in inputs)
        raise ExportError(
            f"{file.name} does not take one batch of images (batch, C, H, W); its inputs: {listed}",
            hint="Other inputs are timed where they are known: in the report of topocompress prune, and by sweep.",
        )
    batch, channels, *pixels = inputs[0].shape
    if not all(isinstance(side, int) for side in (channels, *pixels)):
        if size is None or not isinstance(channels, int):
            raise ExportError(
                f"{file.name} leaves the size of images open: {inputs[0].shape}",
                hint="Say which to time: --input-size 224.",
            )
        pixels = list(size)
    elif size is not None and list(size) != pixels:
        raise ExportError(
            f"{file.name} takes images of {pixels[0]}x{pixels[1]} pixels, not {size[0]}x{size[1]}",
            hint="Leave out --input-size.",
        )
    return (batch if isinstance(batch, int) else 0, channels, *pixels), inputs[0].type


def _noise(shape: tuple[int, ...], kind: str, generator: np.random.Generator) -> NDArray[Any]:
    wanted = np.dtype(_TYPES[kind])
    if wanted.kind in "iu":
        return generator.integers(0, 128, size=shape).astype(wanted)
    return generator.standard_normal(shape).astype(wanted)
