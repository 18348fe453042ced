"""Many small networks trained at once: the runs lie side by side in one batched matrix product.

Nothing passes from one run to another. Each has its own seed (weights, order of samples) and learning rate, and Adam
works number by number, so a run is what it would be alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.activation_zoo import ACTIVATIONS, Parameters, gain
from topocompress.datasets import KnownTopology

TRAINING, TEST, BATCH = 50_000, 2_000, 512
LEVELS = (0.90, 0.95, 0.99)
_BETAS = (0.9, 0.999)
_DRAWS = 10  # of an activation's own random parameters, over which its gain is taken


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Points as they come from the set: no normalisation."""

    training: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, source: KnownTopology) -> Samples:
        """What all runs on a set learn from and are tested on."""
        drawn = [source.sample(count, seed=seed) for count, seed in ((TRAINING, 1), (TEST, 2))]
        training, test = ((torch.from_numpy(points), torch.from_numpy(labels)) for points, labels in drawn)
        return cls(training=training, test=test)


class Stack:
    """Networks of equal shape: ``depth`` hidden layers of ``width``, one activation, two logits."""

    def __init__(self, name: str, inputs: int, width: int, depth: int, seeds: Sequence[int]) -> None:
        self._activation = ACTIVATIONS[name]
        self.depth = depth
        sizes = [inputs, *[width] * depth, 2]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        scale = 1.0
        self.layers: list[tuple[Tensor, Tensor]] = []
        self.parameters: list[Parameters] = []
        for layer in range(depth + 1):
            rows, columns = sizes[layer], sizes[layer + 1]
            weights = torch.stack([torch.randn(rows, columns, generator=each) for each in generators])
            biases = torch.stack([torch.rand(1, columns, generator=each) * 2 - 1 for each in generators])
            self.layers.append((weights * scale / math.sqrt(rows), biases / math.sqrt(rows)))
            if layer < depth:
                started = [self._activation.start((1, columns), (1, 1), each) for each in generators]
                self.parameters.append(tuple(torch.stack(each) for each in zip(*started, strict=True)))
                scale = gain(self._activation, (_DRAWS, 1, columns), (_DRAWS, 1, 1))
        for tensor in self.tensors():
            tensor.requires_grad_(True)

    def tensors(self) -> list[Tensor]:
        """Everything that is trained, the runs along the first axis of each."""
        return [each for pair in self.layers for each in pair] + [each for some in self.parameters for each in some]

    def outputs(self, points: Tensor) -> list[Tensor]:
        """(runs, samples, axes) → what each activation and, last, the logits layer gives."""
        found = []
        for layer, (weights, biases) in enumerate(self.layers):
            points = torch.baddbmm(biases, points, weights)
            if layer < self.depth:
                points = self._activation.call(points, self.parameters[layer])
            found.append(points)
        return found


def _checkpoints(steps: int) -> list[int]:
    """When the networks are tested: every 5 steps, later every 5 %."""
    found = [0]
    while found[-1] < steps:
        found.append(max(found[-1] + 5, int(found[-1] * 1.05)))
    return found[1:]


class Training:
    """Adam at constant rates on cross-entropy, until all is reached or the steps are used up."""

    def __init__(self, stack: Stack, samples: Samples, rates: Sequence[float], seeds: Sequence[int]) -> None:
        self.stack, self._samples = stack, samples
        self._rates = torch.tensor(rates)[:, None, None]
        self._orders = [np.random.default_rng([7, seed]) for seed in seeds]
        self._epoch: NDArray[Any] = np.empty(0)
        self._moments = [[torch.zeros_like(each) for each in stack.tensors()] for _ in _BETAS]
        self.hits = {level: np.full(len(seeds), math.inf) for level in LEVELS}
        self.best = np.zeros(len(seeds))
        self.seconds = 0.0
        self.steps = 0

    def run(self, steps: int, *, among: int = 1) -> None:
        """Train for so many steps, less if the runs of one of ``among`` equal blocks have all reached the last level.

        With several blocks (learning rates) it goes on for half as long again: another may have a better median.
        """
        tests = set(_checkpoints(steps))
        while self.steps < steps:
            started = time.perf_counter()
            self._step()
            self.seconds += time.perf_counter() - started
            if self.steps in tests:
                self._test()
                reached = self.hits[LEVELS[-1]].reshape(among, -1)
                finished = np.isfinite(reached).all(axis=1)
                if finished.any() and (among == 1 or self.steps >= 1.5 * np.median(reached[finished], axis=1).min()):
                    return

    def _step(self) -> None:
        points, labels = self._samples.training
        per_epoch = len(points) // BATCH
        place = self.steps % per_epoch
        if place == 0:
            self._epoch = np.stack([order.permutation(len(points)) for order in self._orders])
        chosen = torch.from_numpy(self._epoch[:, place * BATCH : (place + 1) * BATCH])
        logits = self.stack.outputs(points[chosen])[-1]
        loss = F.cross_entropy(logits.flatten(0, 1), labels[chosen].flatten(), reduction="sum") / BATCH
        tensors = self.stack.tensors()
        gradients = torch.autograd.grad(loss, tensors)
        self.steps += 1
        with torch.no_grad():
            first, second = self._moments
            torch._foreach_lerp_(first, gradients, 1 - _BETAS[0])
            torch._foreach_mul_(second, _BETAS[1])
            torch._foreach_addcmul_(second, gradients, gradients, 1 - _BETAS[1])
            spread = torch._foreach_div(second, 1 - _BETAS[1] ** self.steps)
            torch._foreach_sqrt_(spread)
            torch._foreach_add_(spread, 1e-8)
            for tensor, update in zip(tensors, torch._foreach_div(first, spread), strict=True):
                tensor.sub_(update * (self._rates / (1 - _BETAS[0] ** self.steps)))

    def _test(self) -> None:
        points, labels = self._samples.test
        with torch.no_grad():
            logits = self.stack.outputs(points.expand(len(self.best), *points.shape))[-1]
        accuracy = (logits.argmax(2) == labels).double().mean(1).numpy()
        self.best = np.maximum(self.best, accuracy)
        for level, hits in self.hits.items():
            hits[(accuracy >= level) & np.isinf(hits)] = self.steps
