"""Many small networks trained at once: the runs lie side by side in one batched matrix product.

Nothing passes from one run to another. Each has its own seed (weights, order of samples) and learning rate, and Adam
works number by number, so a run is what it would be alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.activation.replay import CPU, replayed
from benchmarks.activation.starts import Norm, started
from benchmarks.activation.zoo import ACTIVATIONS, Activation, Parameters, gain
from topocompress.activation.point_sets import KnownTopology

TEST, BATCH = 2_000, 512
LEVELS = (0.90, 0.95, 0.99)
_BETAS = (0.9, 0.999)
_DRAWS = 10  # of an activation's own random parameters, over which its gain is taken


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Points as they come from the set: no normalisation."""

    training: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]

    @classmethod
    def of(
        cls,
        source: KnownTopology,
        training: int,
        device: torch.device = CPU,
        *,
        test: int = TEST,
        seeds: tuple[int, int] = (1, 2),
    ) -> Samples:
        """What all runs on a set learn from, so many points, and are tested on; each drawn with a seed of its own."""
        drawn = [source.sample(count, seed=seed) for count, seed in zip((training, test), seeds, strict=True)]
        training, test = (
            (torch.from_numpy(points).to(device), torch.from_numpy(labels).to(device)) for points, labels in drawn
        )
        return cls(training=training, test=test)


class Stack:
    """Networks of equal shape: ``depth`` hidden layers of ``width``, one activation, two logits.

    Args:
        activation: Its name, or the activation of each hidden layer.
        inputs: Axes of the points.
        width: Units of each hidden layer.
        depth: Hidden layers.
        seeds: One for each network.
        plain: Weights start as those of :class:`torch.nn.Linear` do, instead of so that outputs have mean square 1.
        device: Where they lie.
        start: Of :data:`~benchmarks.activation.starts.STARTS`, instead of either.
        norm: ``BatchNorm`` or ``LayerNorm`` before every activation.
    """

    def __init__(
        self,
        activation: str | Sequence[Activation],
        inputs: int,
        width: int,
        depth: int,
        seeds: Sequence[int],
        *,
        plain: bool = False,
        device: torch.device = CPU,
        start: str | None = None,
        norm: str | None = None,
    ) -> None:
        self._activations = [ACTIVATIONS[activation]] * depth if isinstance(activation, str) else list(activation)
        self.depth = depth
        sizes = [inputs, *[width] * depth, 2]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        scale = 1.0
        self.layers: list[tuple[Tensor, Tensor]] = []
        self.parameters: list[Parameters] = []
        self.constants: list[Parameters] = [()] * depth
        self._norms = [Norm(norm, len(seeds), width) for _ in range(depth)] if norm else []
        for layer in range(depth + 1):
            rows, columns = sizes[layer], sizes[layer + 1]
            if start is not None:
                drawn = [started(start, rows, columns, each) for each in generators]
                weights, biases = (torch.stack(each) for each in zip(*drawn, strict=True))
                self.layers.append((weights.to(device), biases.to(device)))
                self._begin(layer, columns, generators, device)
                continue
            # The same draw gives both starts: their weights have standard deviation 1/√rows and 1/√(3 rows).
            weights = torch.stack([torch.randn(rows, columns, generator=each) for each in generators])
            biases = torch.stack([torch.rand(1, columns, generator=each) * 2 - 1 for each in generators])
            weights *= (math.sqrt(1 / 3) if plain else scale) / math.sqrt(rows)
            self.layers.append((weights.to(device), (biases / math.sqrt(rows)).to(device)))
            self._begin(layer, columns, generators, device)
            if layer < depth:
                scale = gain(self._activations[layer], (_DRAWS, 1, columns), (_DRAWS, 1, 1))
        for tensor in self.tensors():
            tensor.requires_grad_(True)

    def _begin(self, layer: int, columns: int, generators: Sequence[torch.Generator], device: torch.device) -> None:
        """The parameters of a layer's activation, drawn after its weights."""
        if layer < self.depth:
            drawn = [self._activations[layer].start((1, columns), (1, 1), each) for each in generators]
            self.parameters.append(tuple(torch.stack(each).to(device) for each in zip(*drawn, strict=True)))

    def tensors(self) -> list[Tensor]:
        """Everything that is trained, the runs along the first axis of each."""
        groups = [*self.layers, *self.parameters, *(norm.tensors for norm in self._norms)]
        return [each for group in groups for each in group]

    def settle(self, points: Tensor) -> None:
        """Let activations that measure their inputs see the first batch, (runs, samples, axes)."""
        if any(each.settle for each in self._activations):
            with torch.no_grad():
                self.outputs(points, training=True, settling=True)

    def outputs(self, points: Tensor, *, training: bool = False, settling: bool = False) -> list[Tensor]:
        """(runs, samples, axes) → what each activation and, last, the logits layer gives."""
        found = []
        for layer, (weights, biases) in enumerate(self.layers):
            points = torch.baddbmm(biases, points, weights)
            if layer < self.depth:
                own = self._activations[layer]
                if self._norms:
                    points = self._norms[layer](points, training=training)
                if settling and own.settle:
                    self.constants[layer] = own.settle(points)
                points = own.call(points, (*self.parameters[layer], *self.constants[layer]))
            found.append(points)
        return found


def checkpoints(steps: int) -> list[int]:
    """When the networks are tested: every 5 steps, later every 5 %."""
    found = [0]
    while found[-1] < steps:
        found.append(max(found[-1] + 5, int(found[-1] * 1.05)))
    return found[1:]


def _finished(hits: NDArray[Any], steps: int) -> bool:
    """Whether a block is through and the steps are half as many again as it took: another may have a better median."""
    blocks = hits[np.isfinite(hits).all(axis=1)]
    return len(blocks) > 0 and (len(hits) == 1 or steps >= 1.5 * np.median(blocks, axis=1).min())


class Training:
    """Adam or SGD at constant rates on cross-entropy, until all is reached or the steps are used up.

    Args:
        stack: The networks.
        samples: What they learn from and are tested on.
        rates: One for each network.
        seeds: One for each network, for the order of the samples.
        decay: Of the matrices, as AdamW does it; biases and amplitudes do not decay.
        momentum: SGD with so much momentum instead of Adam.
        batch: Samples of a step.
    """

    def __init__(
        self,
        stack: Stack,
        samples: Samples,
        rates: Sequence[float],
        seeds: Sequence[int],
        *,
        decay: float = 0.0,
        momentum: float | None = None,
        batch: int = BATCH,
    ) -> None:
        self.stack, self._samples, self._decay = stack, samples, decay
        self._momentum, self._batch = momentum, batch
        points, _ = samples.training
        device = points.device
        self._rates = torch.tensor(rates, device=device)[:, None, None]
        self._orders = [np.random.default_rng([7, seed]) for seed in seeds]
        self._per_epoch = len(points) // batch
        self._epoch = torch.zeros(len(seeds), self._per_epoch, batch, dtype=torch.int64, device=device)
        self._place = torch.zeros(1, dtype=torch.int64, device=device)
        self._count = torch.zeros((), device=device)
        self._moments = [[torch.zeros_like(each) for each in stack.tensors()] for _ in _BETAS]
        self.hits = {level: np.full(len(seeds), math.inf) for level in LEVELS}
        self.best = np.zeros(len(seeds))
        self.seconds = 0.0
        self.steps = 0
        changed = [*stack.tensors(), *self._moments[0], *self._moments[1], self._place, self._count]
        self._step = replayed(self._once, changed, device)

    def run(
        self,
        steps: int,
        *,
        among: int = 1,
        reached: Callable[[NDArray[Any]], None] = lambda _: None,
        finished: Callable[[NDArray[Any], int], bool] = _finished,
    ) -> None:
        """Train for so many steps, less if the runs of one of ``among`` equal blocks have all reached the last level.

        With several blocks (learning rates) it goes on for half as long again: another may have a better median.

        Args:
            steps: At most.
            among: Blocks.
            reached: Told which runs, a boolean for each, have just come to the last level.
            finished: (blocks, runs) steps to the last level, and those done → whether to stop.
        """
        tests = set(checkpoints(steps))
        while self.steps < steps:
            started = time.perf_counter()
            if self.steps % self._per_epoch == 0:
                self._shuffle()
            if self.steps == 0:
                self.stack.settle(self._samples.training[0][self._epoch[:, 0]])
            self._step()
            self.steps += 1
            self.seconds += time.perf_counter() - started
            if self.steps in tests:
                before = np.isfinite(self.hits[LEVELS[-1]])
                self._test()
                now = np.isfinite(self.hits[LEVELS[-1]])
                reached(now & ~before)
                if finished(self.hits[LEVELS[-1]].reshape(among, -1), self.steps):
                    return

    def _shuffle(self) -> None:
        used = self._per_epoch * self._batch
        drawn = [order.permutation(len(self._samples.training[0]))[:used] for order in self._orders]
        self._epoch.copy_(torch.from_numpy(np.stack(drawn)).view(self._epoch.shape))
        self._place.zero_()

    def _once(self) -> None:
        points, labels = self._samples.training
        chosen = self._epoch.index_select(1, self._place)[:, 0]
        logits = self.stack.outputs(points[chosen], training=True)[-1]
        loss = F.cross_entropy(logits.flatten(0, 1), labels[chosen].flatten(), reduction="sum") / self._batch
        tensors = self.stack.tensors()
        gradients = torch.autograd.grad(loss, tensors)
        with torch.no_grad():
            self._place.add_(1)
            self._count.add_(1)
            first, second = self._moments
            if self._momentum is not None:
                torch._foreach_mul_(first, self._momentum)
                torch._foreach_add_(first, gradients)
                for tensor, update in zip(tensors, first, strict=True):
                    tensor.addcmul_(update, self._rates, value=-1)
                return
            torch._foreach_lerp_(first, gradients, 1 - _BETAS[0])
            torch._foreach_mul_(second, _BETAS[1])
            torch._foreach_addcmul_(second, gradients, gradients, 1 - _BETAS[1])
            spread = torch._foreach_div(second, 1 - _BETAS[1] ** self._count)
            torch._foreach_sqrt_(spread)
            torch._foreach_add_(spread, 1e-8)
            if self._decay:
                for weights, _ in self.stack.layers:
                    weights.mul_(1 - self._decay * self._rates)
            rates = self._rates / (1 - _BETAS[0] ** self._count)
            for tensor, update in zip(tensors, torch._foreach_div(first, spread), strict=True):
                tensor.sub_(update * rates)

    def _test(self) -> None:
        points, labels = self._samples.test
        with torch.no_grad():
            logits = self.stack.outputs(points.expand(len(self.best), *points.shape))[-1]
        accuracy = (logits.argmax(2) == labels).double().mean(1).cpu().numpy()
        self.best = np.maximum(self.best, accuracy)
        for level, hits in self.hits.items():
            hits[(accuracy >= level) & np.isinf(hits)] = self.steps
