"""What the activations cost: a training step, and inference in ONNX Runtime, side by side in one process."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import activation_images
from benchmarks.activation_zoo import OURS
from topocompress import export_onnx
from topocompress.export import open_session, run_session

NAMES = ("ReLU", OURS, "SiLU", "Mish")
ROUNDS, SERVED = 12, 80
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
    return {
        "step": {name: 1e3 * _quiet(values) for name, values in steps.items()},
        "onnx": {str(batch): _served(models, images[:batch]) for batch in (1, 8)},
    }


def _quiet(seconds: list[float]) -> float:
    """The first quartile: what it takes when nothing else gets in between."""
    return float(np.quantile(seconds, 0.25))


def _served(models: dict[str, nn.Module], images: torch.Tensor) -> dict[str, float]:
    """Milliseconds in ONNX Runtime on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        sessions = {}
        for name, model in models.items():
            export_onnx(model.eval(), file, samples=images)
            sessions[name] = open_session(file, options)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(SERVED):
        for name, session in sessions.items():
            started = time.perf_counter()
            run_session(session, images.numpy())
            seconds[name].append(time.perf_counter() - started)
    return {name: 1e3 * _quiet(values) for name, values in seconds.items()}


def _step(model: nn.Module, optimiser: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor) -> float:
    started = time.perf_counter()
    optimiser.zero_grad()
    F.cross_entropy(model(images), labels).backward()
    optimiser.step()
    return time.perf_counter() - started
