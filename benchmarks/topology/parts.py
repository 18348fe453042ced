"""The parts of ``python -m benchmarks.topology``."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import psutil
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import nn

from benchmarks.common.networks import Batches, convolutions, images_at_224, inner_convolutions, untrained
from benchmarks.topology import tasks
from benchmarks.topology.bare_forward import bare_forward
from benchmarks.topology.tables import tables
from topocompress import Betti
from topocompress.network.capture import Maps, Slice, collect_clouds, map_shapes
from topocompress.runtime.parallel import workers
from topocompress.runtime.resources import Resources, cpu_seconds
from topocompress.runtime.shared_arrays import SharedArray
from topocompress.scoring.clouds import task_size
from topocompress.scoring.dispatch import score_layers

CORES, TURNS = 2, 5
GROWTH = (250, 500, 1000, 2000, 4000)


class Once(Protocol):
    """Measurements that are made once."""

    def once(self, name: str, measure: Callable[[], Any]) -> Any:
        """The measurement of a name."""


def loop(args: argparse.Namespace, results: Once) -> None:
    """Each inner layer: all its filters by a loop of ``ripser_parallel``, and by two of our processes."""
    batches = images_at_224(args.data, args.samples)
    model = untrained("resnet18", batches)
    with workers(CORES) as run:
        warm = np.random.default_rng(0).standard_normal((CORES, 64, 8)).astype(np.float32)
        _judged(run, warm)
        tasks.by_giotto_on_two_threads(warm[0], 1.0)
        for layer in inner_convolutions(model):
            results.once(f"loop/{layer}", lambda: _loop(_clouds(model, layer, batches, args), run))  # noqa: B023


def _loop(clouds: NDArray[np.float32], run: Any) -> dict[str, Any]:
    ours, seconds = _judged(run, clouds)
    theirs, different = [], []
    for index, (cloud, (parts, loops, epsilon)) in enumerate(zip(clouds, ours, strict=True)):
        started = time.perf_counter()
        found = tasks.by_giotto_on_two_threads(cloud, epsilon)
        theirs.append(time.perf_counter() - started)
        if found != (parts, loops):  # giotto-ph rounds distances to single precision: who is right at ε?
            exact = tasks.by_gudhi_up_to(cloud, epsilon)
            different.append({"filter": index, "ours": [parts, loops], "giotto-ph": found, "exact": exact})
    return {
        "filters": len(clouds),
        "features": clouds.shape[2],
        "ours_s": seconds,
        "loop_s": sum(theirs),
        "different": different,
    }


def engines(args: argparse.Namespace, results: Once) -> None:
    """A few filters of each inner layer by every engine, on one core."""
    args.filters = args.filters or 2
    batches = images_at_224(args.data, args.samples)
    model = untrained("resnet18", batches)
    with threadpool_limits(1):
        _engines(np.random.default_rng(0).standard_normal((1, 64, 8)).astype(np.float32))  # compiles and loads all
        for layer in inner_convolutions(model):
            results.once(f"engines/{layer}", lambda: _engines(_clouds(model, layer, batches, args)))  # noqa: B023


def _engines(clouds: NDArray[np.float32]) -> list[dict[str, Any]]:
    rows = []
    for cloud in clouds:
        started = time.perf_counter()
        parts, loops, epsilon = tasks.judge(cloud)
        row: dict[str, Any] = {"topocompress": time.perf_counter() - started, "same": True}
        for name, engine in ENGINES.items():
            started = time.perf_counter()
            found = engine(cloud, epsilon)
            row[name] = time.perf_counter() - started
            row["same"] &= found == (parts, loops)
        rows.append(row)
    return rows


ENGINES = {
    "giotto-ph, up to ε": tasks.by_giotto_up_to,
    "ripser.py, up to ε": tasks.by_ripser_up_to,
    "GUDHI with edge collapse, up to ε": tasks.by_gudhi_up_to,
    "giotto-ph, whole filtration": tasks.by_giotto,
}


def score(args: argparse.Namespace, results: Once) -> None:
    """All convolutions of a ResNet-18, exact and with ``--map-size 16``, each between two bare forward passes."""
    batches = images_at_224(args.data, args.samples)
    model = untrained("resnet18", batches)
    names = convolutions(model)
    score_layers(model, names[:1], Betti(), batches[:3], resources=Resources(workers=CORES))  # compiles once
    with bare_forward("resnet18", args.data, args.samples) as forward:
        for name, maps in (("exact", Maps()), ("map size 16", Maps(size=16))):
            for turn in range(TURNS):
                results.once(f"score/{name}/{turn}", lambda: _score(model, names, batches, maps, forward))  # noqa: B023


def _score(
    model: nn.Module, names: list[str], batches: Batches, maps: Maps, forward: Callable[[], tuple[float, float]]
) -> dict[str, Any]:
    before = forward()
    steps: dict[str, float] = {}
    started, taken = time.perf_counter(), cpu_seconds()

    def progress(step: str, _done: int, _total: int) -> None:
        steps[step] = time.perf_counter() - started

    resources = Resources(workers=CORES)
    run = score_layers(model, names, Betti(), batches, resources=resources, maps=maps, progress=progress).run
    spent = time.perf_counter() - started, cpu_seconds() - taken
    around = list(zip(before, forward(), strict=True))
    return {
        "score_s": spent[0],
        "forward_s": around[0],
        "score_cpu_s": spent[1],
        "forward_cpu_s": around[1],
        "until_s": steps,
        **run,
    }


def memory(args: argparse.Namespace, results: Once) -> None:
    """The peak of ResNet-50's scoring within 2 GB, over that of a process that only runs the forward pass."""
    for what in ("forward", "score"):
        results.once(f"memory/{what}", lambda: _peak(what, args))  # noqa: B023


def _peak(what: str, args: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.topology.memory", what, str(args.samples), args.data or ""]
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        tree = psutil.Process(process.pid)
        while process.poll() is None:
            total = 0
            for each in [tree, *_children(tree)]:
                try:  # shared pages count once, divided among those who share them; clouds only where they are mapped
                    total += each.memory_full_info().pss
                except psutil.Error:
                    continue
            peak = max(peak, total)
            time.sleep(0.2)
        said = process.stdout.read() if process.stdout else ""
    return {"peak_bytes": peak, "said": said.strip()}


def _children(tree: psutil.Process) -> list[psutil.Process]:
    try:
        return tree.children(recursive=True)
    except psutil.Error:
        return []


def growth(args: argparse.Namespace, results: Once) -> None:
    """Seconds per filter on one core by number of samples; filters and processes at N = 1,000."""
    args.filters = 4
    batches = images_at_224(args.data, GROWTH[-1])
    model = untrained("resnet18", batches)
    for layer in ("layer2.0.conv1", "layer3.0.conv1"):
        clouds = _clouds(model, layer, batches, args)
        with threadpool_limits(1):
            tasks.stages(clouds[0][:100])
            for samples in GROWTH:
                results.once(f"growth/{layer}/{samples}", lambda: _stages(clouds[:, :samples]))  # noqa: B023
    args.filters = None
    clouds = _clouds(model, "layer3.0.conv1", batches[: 1 + args.samples // 32], args)[:, : args.samples]
    for count in (1, CORES):
        with workers(count) as run:
            _judged(run, clouds[: 2 * count])
            for filters in (32, 64, 128, 256):
                results.once(f"processes/{count}/{filters}", lambda: _judged(run, clouds[:filters])[1])  # noqa: B023
    results.once("peak", _peak_rate)


def _stages(clouds: NDArray[np.float32]) -> dict[str, float]:
    rows = [tasks.stages(np.ascontiguousarray(cloud)) for cloud in clouds for _ in range(3)]
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]} | {"features": clouds.shape[2]}


def _judged(run: Any, clouds: NDArray[np.float32]) -> tuple[list[tuple[int, int, float]], float]:
    """What the processes say of each cloud, and the seconds they took; tasks are of the size that scoring sends."""
    step = max(1, min(len(clouds) // 8, task_size(clouds.shape[1], clouds.shape[2])))
    started = time.perf_counter()
    parts = run(tasks.judge_all, ((clouds[start : start + step],) for start in range(0, len(clouds), step)))
    found = [each for part in parts for each in part]
    return found, time.perf_counter() - started


def _peak_rate() -> float:
    """Multiply-adds per second of a large square product in single precision on one core."""
    square = np.random.default_rng(0).standard_normal((2048, 2048)).astype(np.float32)
    with threadpool_limits(1):
        square @ square.copy()
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            square @ square.copy()
            seconds.append(time.perf_counter() - started)
    return float(len(square) ** 3 / statistics.median(seconds))


def _clouds(model: nn.Module, layer: str, batches: Batches, args: argparse.Namespace) -> NDArray[np.float32]:
    """(filters, samples, features) maps of the filters asked for, the first ones of a layer."""
    samples = sum(len(images) for images, _ in batches)
    channels, features = map_shapes(model, [layer], batches[0][0][:1])[layer]
    count = min(channels, args.filters or channels)
    part = Slice(layer=layer, start=0, stop=count, features=features)
    (clouds,) = collect_clouds(model, [part], batches, samples, allocate=SharedArray)
    return clouds


def show(rows: Mapping[str, Any]) -> None:
    """Print the tables, in Markdown, of what has been measured."""
    print(tables(rows, ENGINES))
