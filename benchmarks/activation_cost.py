"""What the activations cost: a training step, and inference in ONNX Runtime, side by side in one process."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import activation_images
from benchmarks.activation_zoo import OURS
from topocompress import compare_latency, export_onnx

NAMES = ("ReLU", OURS, "SiLU", "Mish")
ROUNDS = 20
SIZES = {"10 classes, as trained": (8, 16, 32, 32), "10 classes, wider": (32, 64, 128, 128)}
BATCH = 64


def measure() -> dict[str, Any]:
    """Milliseconds by network and activation, which take turns in each round and so share the noise."""
    return {title: _one(widths) for title, widths in SIZES.items()}


def _one(widths: tuple[int, ...]) -> dict[str, Any]:
    models = {name: activation_images.network(name, 3, 10, 0, norm=True, widths=widths) for name in NAMES}
    images = torch.randn(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(BATCH) % 10
    optimisers = {name: torch.optim.Adam(model.parameters()) for name, model in models.items()}
    steps: dict[str, list[float]] = {name: [] for name in NAMES}
    for counted in [False] * 3 + [True] * ROUNDS:
        for name, model in models.items():
            seconds = _step(model, optimisers[name], images, labels)
            if counted:
                steps[name].append(seconds)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.onnx" for number in range(len(NAMES))]
        for model, file in zip(models.values(), files, strict=True):
            export_onnx(model.eval(), file, samples=images[:4])
        found = compare_latency(files, sample=images[:1].numpy(), batch_sizes=(1, 8))
    return {
        "step": {name: 1e3 * float(np.median(values)) for name, values in steps.items()},
        "step_ratio": {name: float(np.median(np.divide(steps[name], steps["ReLU"]))) for name in NAMES},
        "onnx": {
            name: {str(each.batch): each.median_ms for each in row} for name, row in zip(NAMES, found, strict=True)
        },
    }


def _step(model: nn.Module, optimiser: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor) -> float:
    started = time.perf_counter()
    optimiser.zero_grad()
    F.cross_entropy(model(images), labels).backward()
    optimiser.step()
    return time.perf_counter() - started
