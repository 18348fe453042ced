"""CNNs of one kind trained side by side, on a GPU as one recorded graph of kernels.

A small network keeps a GPU busy for microseconds at a time, less than it takes Python to ask for it. So a step of all
runs is recorded once (a CUDA graph, the runs spread over a few streams) and replayed; nothing passes between the runs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.activation.data import Images
from benchmarks.activation.replay import replayed

BATCH = 64
AVERAGED = 0.9
"""Tested is a moving average of the weights: single steps at a constant rate are too noisy to tell runs apart."""
_BETAS = (0.9, 0.999)
_EPSILON = 1e-8
_STREAMS = 10
_TESTED, _TESTED_ON_CPU = 2_000, 125  # images at a time: what fills a GPU, what stays in a CPU's cache


class _Run:
    """One network with its Adam, its moving average and the order in which it sees the images."""

    def __init__(
        self,
        model: nn.Module,
        images: Images,
        steps: int,
        device: torch.device,
        computing: Callable[[], torch.autocast],
    ) -> None:
        self._computing = computing
        self.model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(self.model).eval()
        self.order = torch.zeros(steps, BATCH, dtype=torch.int64, device=device)
        self.rate, self.step_number = (torch.zeros((), device=device) for _ in range(2))
        self.place = torch.zeros(1, dtype=torch.int64, device=device)
        self._pixels, self._labels = (each.to(device) for each in images.training)
        self._weights = list(self.model.parameters())
        self._first, self._second = ([torch.zeros_like(each) for each in self._weights] for _ in _BETAS)

    def state(self) -> list[Tensor]:
        """Everything that a step changes."""
        own = [*self.model.state_dict().values(), *self.averaged.state_dict().values()]
        return [*own, *self._first, *self._second, self.step_number, self.place]

    def begin(self, model: nn.Module, seed: int, rate: float) -> None:
        """Start anew from other weights."""
        with torch.no_grad():
            for target in (self.model, self.averaged):
                for mine, start in zip(target.state_dict().values(), model.state_dict().values(), strict=True):
                    mine.copy_(start)
            for moment in (*self._first, *self._second, self.step_number, self.place):
                moment.zero_()
            self.rate.fill_(rate)
            draw, per_epoch = np.random.default_rng([7, seed]), len(self._labels) // BATCH
            epochs = [
                draw.permutation(len(self._labels))[: per_epoch * BATCH].reshape(per_epoch, BATCH)
                for _ in range(-(-len(self.order) // per_epoch))
            ]
            self.order.copy_(torch.from_numpy(np.concatenate(epochs)[: len(self.order)]))

    def step(self) -> None:
        """Adam at a constant rate on cross-entropy."""
        batch = self.order.index_select(0, self.place)[0]
        # Selected as they lie, channels last, so that the network need not turn them.
        images = self._pixels.permute(0, 2, 3, 1).index_select(0, batch).permute(0, 3, 1, 2)
        with self._computing():
            logits = self.model(images)
        loss = F.cross_entropy(logits.float(), self._labels.index_select(0, batch))
        gradients = torch.autograd.grad(loss, self._weights)
        with torch.no_grad():
            self.place.add_(1)
            self.step_number.add_(1)
            torch._foreach_lerp_(self._first, gradients, 1 - _BETAS[0])
            torch._foreach_mul_(self._second, _BETAS[1])
            torch._foreach_addcmul_(self._second, gradients, gradients, 1 - _BETAS[1])
            spread = torch._foreach_sqrt(self._second)
            torch._foreach_mul_(spread, (1 - _BETAS[1] ** self.step_number).rsqrt())
            torch._foreach_add_(spread, _EPSILON)
            update = torch._foreach_div(self._first, spread)
            torch._foreach_mul_(update, -self.rate / (1 - _BETAS[0] ** self.step_number))
            torch._foreach_add_(self._weights, update)
            latest, mean = (
                [each for each in model.state_dict().values() if each.is_floating_point()]
                for model in (self.model, self.averaged)
            )
            torch._foreach_lerp_(mean, latest, 1 - AVERAGED)


class Runs:
    """Several runs of one kind, which can be started anew with other seeds and rates.

    Args:
        make: seed → network.
        count: How many at a time.
        images: What they learn from and are tested on.
        steps: The most they take.
        device: Where they run.
        precision: ``bf16`` for mixed precision, ``no`` for what the device does by itself.
    """

    def __init__(
        self,
        make: Callable[[int], nn.Module],
        count: int,
        images: Images,
        steps: int,
        device: torch.device,
        precision: str = "no",
    ) -> None:
        self._make, self._test, self._device = make, images.test, device
        self._computing = partial(torch.autocast, device.type, torch.bfloat16, enabled=precision == "bf16")
        self._runs = [_Run(make(0), images, steps, device, self._computing) for _ in range(count)]
        self._streams: list[torch.cuda.Stream] = []
        if device.type == "cuda":
            self._streams = [torch.cuda.Stream() for _ in range(min(count, _STREAMS))]
        self.step = replayed(self._all, [each for run in self._runs for each in run.state()], device)

    def _all(self) -> None:
        if not self._streams:
            for run in self._runs:
                run.step()
            return
        now = torch.cuda.current_stream()
        for place, stream in enumerate(self._streams):
            stream.wait_stream(now)
            with torch.cuda.stream(stream):
                for run in self._runs[place :: len(self._streams)]:
                    run.step()
        for stream in self._streams:
            now.wait_stream(stream)

    def begin(self, seeds: Sequence[int], rates: Sequence[float]) -> None:
        """Start all runs anew."""
        for run, seed, rate in zip(self._runs, seeds, rates, strict=True):
            run.begin(self._make(seed), seed, rate)

    def accuracies(self, count: int | None = None) -> list[float]:
        """Of the averaged networks, on the first ``count`` test images or all."""
        pixels, labels = (each[:count] for each in self._test)
        at_once = _TESTED_ON_CPU if self._device.type == "cpu" else _TESTED
        with torch.no_grad(), self._computing():
            right = [
                sum(
                    (run.averaged(some.to(self._device)).argmax(1) == wanted.to(self._device)).sum()
                    for some, wanted in zip(pixels.split(at_once), labels.split(at_once), strict=True)
                )
                for run in self._runs
            ]
        return [int(each) / len(labels) for each in torch.stack([torch.as_tensor(each) for each in right]).tolist()]
