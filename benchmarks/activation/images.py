"""The study on images: CNNs of ordinary size with and without BatchNorm, two classes and ten."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.activation.data import SETS, Images, chosen, keep, kept
from benchmarks.activation.runs import Runs
from benchmarks.activation.zoo import CANDIDATES, OURS, layer
from benchmarks.common.results import Results

NAMES = (OURS, "ReLU", "GELU", "SiLU", "Mish", "tanh", "leaky ReLU")
KINDS = {"plain": False, "BatchNorm": True}
RATES = (6e-4, 1.25e-3, 2.5e-3, 5e-3, 1e-2)
TRIAL_SEEDS, SEEDS = (100, 101), tuple(range(10))
STEPS = {10: 1_000, 2: 500}
"""By the number of classes: a little more than one epoch of all images, and 2.7 of a pair's."""
TRACKED = 2_000
"""Test images, or all of a pair's, on which a run is tested as it goes; the last three tests are on all."""
TRIED_ON = ("Fashion-MNIST, 10", "CIFAR-10, cat or dog")
"""Where settings of ours are tried."""
LONGER = {("Fashion-MNIST, 10", "plain"): ("silu - 0.25 arch(1.5)",)}
"""By set and kind of network, what was tried and is then trained in full."""
WIDTHS, STRIDES = (32, 64, 128, 128), (1, 2, 1, 2)

Task = tuple[str, str, str, bool]
"""Activation, set, kind of network, and whether the runs that count are wanted or the learning rates alone."""


class OutOfTime(Exception):
    """The deadline has come in the middle of a measurement."""


def moments(steps: int) -> tuple[int, ...]:
    """Every tenth more steps, and three times within the last twentieth."""
    last = {round(steps * share) for share in (0.96, 0.98, 1)}
    return tuple(sorted({round(40 * 1.1**power) for power in range(80)} & set(range(round(0.95 * steps))) | last))


def study(
    results: Results,
    folders: dict[str, Path | None],
    device: torch.device,
    deadline: float,
    *,
    table: bool,
    jobs: int = 1,
    precision: str = "no",
) -> None:
    """Every activation on every set whose images there are; what is there already is not done again.

    Args:
        results: Where they go.
        folders: ``fashion`` and ``cifar`` → where the images lie, or ``None``.
        device: Where the networks are trained.
        deadline: On the clock of :func:`time.time`; what would end after it is not kept.
        table: The runs that count; else the trials of what was tried for ours, and runs of :data:`LONGER`.
        jobs: Processes, which may share a GPU.
        precision: ``no`` or ``bf16``, of everything that is computed.
    """
    titles = [title for title in SETS if folders[SETS[title][0]] and (table or title in TRIED_ON)]
    # First those that matter most, set by set, so that one set's images are in memory at a time.
    turns = (NAMES[:4], NAMES[4:]) if table else (NAMES[1:5], CANDIDATES)
    tasks = [
        (name, title, kind, table or name in LONGER.get((title, kind), ()))
        for names in turns
        for title, kind, name in itertools.product(titles, KINDS, names)
    ]
    tasks = [task for task in tasks if row(*task[:3], "runs" if task[3] else "trial") not in results.rows]
    if not tasks:
        return
    with tempfile.TemporaryDirectory() as shared:
        for kind, folder in folders.items():
            if folder is not None:
                keep(kind, folder, Path(shared))
        begin = (shared, str(device), deadline, dict(STEPS), precision)
        work = [(*task, results.rows.get(row(*task[:3], "trial"))) for task in tasks]
        for found in _alone(work, begin) if jobs == 1 else _together(work, begin, jobs):
            for name, measured in found.items():
                results.once(name, partial(dict, measured))
                ends = measured.get("final", [f"{score:.4f}" for score in measured.get("scores", ())])
                print(f"{name}: rate {measured['rate']:g}, {ends}", flush=True)


def row(name: str, title: str, kind: str, what: str) -> str:
    """What a measurement is called in the file of results."""
    return f"images/{title}/{kind}/{name}/{what}"


def _alone(work: Sequence[tuple[Any, ...]], begin: tuple[Any, ...]) -> Iterator[dict[str, Any]]:
    _begin(*begin)
    for task in work:
        found = _measured(*task)
        yield found
        if not found:
            return


def _together(work: Sequence[tuple[Any, ...]], begin: tuple[Any, ...], jobs: int) -> Iterator[dict[str, Any]]:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_begin_process, initargs=begin) as pool:
        for done in as_completed([pool.submit(_measured, *task) for task in work]):
            yield done.result()


_here: dict[str, Any] = {}
"""What this process has been told to work with."""


def prepare_process() -> None:
    """Settings of torch that hold for a whole process."""
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = True  # PyTorch's default for convolutions
    torch._dynamo.config.recompile_limit = 100  # one for each shape


def _begin_process(*begin: Any) -> None:
    prepare_process()
    _begin(*begin)


def _begin(shared: str, device: str, deadline: float, steps: dict[int, int], precision: str) -> None:
    STEPS.update(steps)
    _here.update(shared=Path(shared), device=torch.device(device), deadline=deadline, precision=precision)
    _images.cache_clear()


@lru_cache(maxsize=1)
def _images(title: str) -> Images:
    kind, classes = SETS[title]
    return chosen(kept(kind, _here["shared"]), classes, _here["device"])


def _measured(name: str, title: str, kind: str, table: bool, trial: Any) -> dict[str, Any]:
    """Rows of one activation in one cell; none once the deadline has come."""
    if time.time() > _here["deadline"]:
        return {}
    side = _Side(name, _images(title), KINDS[kind])
    found = {}
    try:
        if trial is None:
            found[row(name, title, kind, "trial")] = trial = side.trial()
        if table:
            found[row(name, title, kind, "runs")] = side.runs(trial["rate"])
    except OutOfTime:
        print(f"{name}, {title}, {kind}: the deadline has come", flush=True)
    return found


class _Side:
    """The networks of one cell with one activation, set up when the first of them is trained."""

    def __init__(self, name: str, images: Images, norm: bool) -> None:
        self._name, self._images, self._norm = name, images, norm
        self._steps = STEPS[images.classes]

    @cached_property
    def _runs(self) -> Runs:
        channels = self._images.training[0].shape[1]
        make = partial(network, self._name, channels, self._images.classes, norm=self._norm)
        return Runs(
            lambda seed: make(seed=seed),
            len(SEEDS),
            self._images,
            self._steps,
            _here["device"],
            _here["precision"],
        )

    def trial(self) -> dict[str, Any]:
        """The rate with the highest mean accuracy over the later half of the tests, in half the steps."""
        steps = self._steps // 2
        late = moments(steps)[len(moments(steps)) // 2 :]
        seeds = [seed for _ in RATES for seed in TRIAL_SEEDS]
        found = self._train(seeds, [rate for rate in RATES for _ in TRIAL_SEEDS], late)
        tests = np.array(found["accuracy"])
        scores, ends = (each.mean(1).reshape(len(RATES), -1).mean(1) for each in (tests, tests[:, -3:]))
        return {
            "rate": RATES[int(scores.argmax())],
            "scores": scores.round(5).tolist(),
            "ends": ends.round(5).tolist(),
            **{key: found[key] for key in ("seconds", "device", "precision")},
        }

    def runs(self, rate: float) -> dict[str, Any]:
        """The runs that count, at the best rate."""
        tests = moments(self._steps)
        found = self._train(SEEDS, [rate] * len(SEEDS), tests, whole=tests[-3:])
        return {"rate": rate, **found, "final": np.round(np.mean(found["last"], 1), 5).tolist()}

    def _train(
        self, seeds: Sequence[int], rates: Sequence[float], tests: Sequence[int], whole: Sequence[int] = ()
    ) -> dict[str, Any]:
        """Accuracy of each run at each test, and where wanted of all test images."""
        runs = self._runs
        runs.begin(seeds, rates)
        accuracies, last = [], []
        started = time.perf_counter()
        for step in range(1, tests[-1] + 1):
            runs.step()
            if step in tests:
                if time.time() > _here["deadline"]:
                    raise OutOfTime
                accuracies.append(runs.accuracies(TRACKED))
            if step in whole:
                last.append(runs.accuracies())
        return {
            "accuracy": np.transpose(accuracies).tolist(),
            **({"last": np.transpose(last).tolist()} if last else {}),
            "seconds": round(time.perf_counter() - started, 2),
            "device": str(_here["device"]),
            "precision": _here["precision"],
        }


def network(
    name: str, channels: int, classes: int, seed: int, *, norm: bool, widths: Sequence[int] = WIDTHS
) -> nn.Module:
    """Four convolutions, global average, linear; weights start so that every layer's output has mean square 1."""
    generator = torch.Generator().manual_seed(seed)
    modules: list[nn.Module] = []
    scale = 1.0
    for width, stride in zip(widths, STRIDES, strict=True):
        conv = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=not norm)
        activation = layer(name, width, generator)
        with torch.no_grad():
            conv.weight.normal_(0, scale / math.sqrt(9 * channels), generator=generator)
            if conv.bias is not None:
                conv.bias.zero_()
        modules += [conv, *([nn.BatchNorm2d(width)] if norm else []), activation]
        channels, scale = width, _gain(name)
    head = nn.Linear(channels, classes)
    with torch.no_grad():
        head.weight.normal_(0, 1 / math.sqrt(channels), generator=generator)
        head.bias.zero_()
    return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


@cache
def _gain(name: str) -> float:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        outputs = layer(name, 64, generator)(torch.randn(64, 64, 8, 8, generator=generator))
    return float(outputs.square().mean().rsqrt())
