"""Training steps recorded as CUDA graphs: small networks train several times as fast where a GPU waits for Python.

The forward and the backward pass are recorded once and played back; kernels and numbers are those of the steps as they
are. Loss, optimiser and everything else stay with :mod:`topocompress.training.trainer`.

    python -m benchmarks.arena.recorded

trains a ResNet-20 on noise both ways, prints losses and seconds, and fails if the losses differ.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.common.cifar_resnet import resnet20
from topocompress.training import accelerator, trainer
from topocompress.training.finetuning import finetune
from topocompress.training.recipe import Recipe


@contextlib.contextmanager
def recorded_steps(example: Tensor) -> Iterator[None]:
    """Fine-tuning in this block plays recorded steps back, for batches of the example's shape.

    Args:
        example: (B, C, H, W) a batch as it will come, on the GPU.
    """

    def wrapped(helper: Any, model: nn.Module, used: set[str]) -> nn.Module:
        return record(accelerator.wrapped(helper, model, used), example)

    with mock.patch.object(trainer, "wrapped", wrapped):
        yield


def record(model: nn.Module, example: Tensor) -> nn.Module:
    """Record a network's training passes in place; batches of other shapes, and evaluation, run as they did."""
    as_written = model.forward
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    gc.collect()  # an earlier recording must not be thrown away during this one
    gc.disable()
    try:
        torch.cuda.make_graphed_callables(model, (example,))
    finally:
        gc.enable()
    model.load_state_dict(before)  # the steps that warm it up move the statistics of norms
    played = model.forward

    def forward(images: Tensor) -> Any:
        return played(images) if images.shape == example.shape else as_written(images)

    model.forward = forward  # type: ignore[assignment]
    return model


def main() -> int:
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(4000, 3, 32, 32, generator=generator), torch.arange(4000) % 10
    torch.manual_seed(0)
    model = resnet20().cuda()
    found = {}
    for way in ("as they are", "recorded", "as they are", "recorded"):  # the first two warm up
        block = recorded_steps(torch.zeros(128, 3, 32, 32, device="cuda")) if way == "recorded" else None
        with block or contextlib.nullcontext():
            found[way] = finetune(model, TensorDataset(images, labels), Recipe(epochs=1)).history[-1]
        print(f"{way}: loss {found[way].loss:.5f}, {found[way].seconds:.2f} s", flush=True)
    plain, played = (found[way].loss or 0.0 for way in ("as they are", "recorded"))
    return int(abs(plain - played) > 0.02 * plain)


if __name__ == "__main__":
    sys.exit(main())
