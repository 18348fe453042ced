"""A step of training, recorded once on a GPU as a graph of kernels and replayed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

CPU = torch.device("cpu")


def replayed(step: Callable[[], None], state: Sequence[Tensor], device: torch.device) -> Callable[[], None]:
    """A step that works in place on ``state``, recorded if the device is a GPU; the state stays as it was.

    Args:
        step: Takes and returns nothing, always with the same tensors, and asks the CPU nothing.
        state: All tensors that it changes.
        device: Where they lie.
    """
    if device.type != "cuda":
        return step
    gc.collect()  # an earlier recording must not be thrown away during this one
    torch.cuda.empty_cache()
    gc.disable()
    try:
        return _recorded(step, state)
    finally:
        gc.enable()


def _recorded(step: Callable[[], None], state: Sequence[Tensor]) -> Callable[[], None]:
    kept = [each.detach().clone() for each in state]
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        step()  # kernels are loaded and chosen now: neither may happen while recording
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    replay = graph.replay
    try:
        with torch.cuda.graph(graph):
            step()
    except RuntimeError as error:
        print(f"this step could not be recorded and will be slow: {error}", flush=True)
        replay = step
    with torch.no_grad():
        for each, before in zip(state, kept, strict=True):
            each.copy_(before)
    return replay
