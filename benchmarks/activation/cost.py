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

from benchmarks.activation import images as cnns
from benchmarks.activation.sets import DEPTH
from benchmarks.activation.sets import NAMES as DENSE
from benchmarks.activation.stack import BATCH as DENSE_BATCH
from benchmarks.activation.zoo import ACTIVATIONS, FIRST, FIRST_FREQUENCY, FIXED, OURS, Layer, Ours
from topocompress import TopologicalActivation, export_onnx
from topocompress.activation.module import FREQUENCY
from topocompress.deploy.export import open_session, run_session

NAMES = ("ReLU", OURS, "SiLU", "Mish")
ROUNDS, DENSE_ROUNDS, SERVED = 12, 300, 300
SIZES = {"10 classes, as trained": (32, 64, 128, 128), "10 classes, a quarter of the width": (8, 16, 32, 32)}
BATCH = 64
WIDTHS = (32, 64)


def measure() -> dict[str, Any]:
    """Milliseconds by network and activation, which take turns in each round and so share the noise."""
    return {title: _one(widths) for title, widths in SIZES.items()}


def _one(widths: tuple[int, ...]) -> dict[str, Any]:
    models = {name: cnns.network(name, 3, 10, 0, norm=True, widths=widths) for name in NAMES}
    models[OURS] = _by_default(models[OURS])
    images = torch.randn(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(BATCH) % 10
    return {
        "step": _in_turns(models, images, labels, ROUNDS),
        "onnx": {str(batch): _served(models, images[:batch]) for batch in (1, 8)},
    }


def _by_default(model: nn.Module) -> nn.Module:
    """The network with the product's activation as it is without a setting; a step of training fits it."""
    for name, module in list(model.named_children()):
        if isinstance(module, Ours):
            setattr(model, name, TopologicalActivation(module.module.channels))
    return model


def dense() -> dict[str, dict[str, float]]:
    """Width → activation → milliseconds of a step of the networks on points."""
    points = torch.randn(DENSE_BATCH, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(DENSE_BATCH) % 2
    return {
        str(width): _in_turns({name: _network(name, width) for name in DENSE}, points, labels, DENSE_ROUNDS)
        for width in WIDTHS
    }


def _network(name: str, width: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for place in range(DEPTH):
        parts += [nn.Linear(width if place else 3, width), _dense_layer(name, width, place)]
    return nn.Sequential(*parts, nn.Linear(width, 2))


def _dense_layer(name: str, width: int, place: int) -> nn.Module:
    """Ours is the product's own module."""
    if name == FIRST:
        return nn.SiLU() if place else TopologicalActivation(width, frequency=FIRST_FREQUENCY)
    if name == OURS:
        return TopologicalActivation(width)
    if name == FIXED:
        return TopologicalActivation(width, frequency=FREQUENCY)
    return Layer(ACTIVATIONS[name], width, torch.Generator().manual_seed(place), axes=0)


def _in_turns(
    models: dict[str, nn.Module], inputs: torch.Tensor, labels: torch.Tensor, rounds: int
) -> dict[str, float]:
    optimisers = {name: torch.optim.Adam(model.parameters()) for name, model in models.items()}
    steps: dict[str, list[float]] = {name: [] for name in models}
    for counted in [False] * 3 + [True] * rounds:
        for name, model in models.items():
            seconds = _step(model, optimisers[name], inputs, labels)
            if counted:
                steps[name].append(seconds)
    return {name: 1e3 * _quiet(values) for name, values in steps.items()}


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
