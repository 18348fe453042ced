"""The bare forward passes, in a process that runs nothing else: no tuning of ours can help or hurt them."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import torch
from torch import nn

from benchmarks.common.networks import Batches, images_at_224, untrained

_held: list[tuple[nn.Module, Batches]] = []


@contextlib.contextmanager
def bare_forward(name: str, source: str | None, samples: int) -> Iterator[Callable[[], tuple[float, float]]]:
    """A function that runs the images through the network as one does without us.

    It returns the seconds that took by the clock and of the processors.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=_prepare, initargs=(name, source, samples)) as pool:
        pool.submit(_seconds).result()  # the first one warms up
        yield lambda: pool.submit(_seconds).result()


def _prepare(name: str, source: str | None, samples: int) -> None:
    batches = images_at_224(source, samples)
    _held.append((untrained(name, batches), batches))


def _seconds() -> tuple[float, float]:
    model, batches = _held[0]
    started, taken = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        for images, _ in batches:
            model(images)
    return time.perf_counter() - started, time.process_time() - taken
