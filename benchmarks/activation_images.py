"""The study on images: small CNNs with and without BatchNorm, two classes and ten."""

from __future__ import annotations

import copy
import gzip
import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from benchmarks.activation_zoo import OURS, layer
from benchmarks.topology import Results

NAMES = (OURS, "ReLU", "GELU", "SiLU", "tanh", "Mish")
RATES = (2.5e-3, 5e-3, 1e-2, 2e-2)
LOCAL = 1.5
"""Ours folds once, within ± so much of 0."""
AVERAGED = 0.9
"""Tested is a moving average of the weights: single steps at a constant rate are too noisy to tell runs apart."""
TRIAL_SEED, SEEDS = 100, tuple(range(5))
BATCH, STEPS = 64, 300
TRAINING, TEST = 20_000, 2_000
WIDTHS, STRIDES = (8, 16, 32, 32), (1, 2, 1, 2)
TESTED_AT = tuple(
    sorted({round(4 * 1.06**power) for power in range(80)} & set(range(STEPS)) | {STEPS - 14, STEPS - 7, STEPS})
)


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images of half the size, normalised, and their labels counted from 0."""

    training: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    classes: int


def fashion(folder: Path, classes: Sequence[int]) -> Images:
    """Fashion-MNIST from its four gzipped files."""

    def read(name: str, skip: int) -> NDArray[np.uint8]:
        with gzip.open(folder / name) as stream:
            return np.frombuffer(stream.read(), np.uint8, offset=skip)

    parts = []
    for prefix in ("train", "t10k"):
        pixels = read(f"{prefix}-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)
        parts.append(_chosen(pixels, read(f"{prefix}-labels-idx1-ubyte.gz", 8), classes))
    return _prepared(parts, len(classes))


def cifar(folder: Path, classes: Sequence[int]) -> Images:
    """CIFAR-10 as JPEG files in class folders."""
    names = sorted(each.name for each in (folder / "train").iterdir())
    parts = []
    for part, count in (("train", TRAINING), ("test", TEST)):
        each = count // len(classes)
        files = [
            (file, number) for number in classes for file in sorted((folder / part / names[number]).iterdir())[:each]
        ]
        pixels = np.stack([np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1) for file, _ in files])
        parts.append(_chosen(pixels, np.array([number for _, number in files]), classes))
    return _prepared(parts, len(classes))


def _chosen(pixels: NDArray[Any], labels: NDArray[Any], classes: Sequence[int]) -> tuple[NDArray[Any], NDArray[Any]]:
    kept = np.isin(labels, classes)
    return pixels[kept], np.searchsorted(classes, labels[kept])


def _prepared(parts: list[tuple[NDArray[Any], NDArray[Any]]], classes: int) -> Images:
    made = []
    for (pixels, labels), count in zip(parts, (TRAINING, TEST), strict=True):
        order = np.random.default_rng(0).permutation(len(pixels))[:count]
        images = F.avg_pool2d(torch.from_numpy(pixels[order]).float() / 255, 2)
        made.append((images, torch.from_numpy(labels[order].astype(np.int64))))
    mean, std = made[0][0].mean((0, 2, 3), keepdim=True), made[0][0].std((0, 2, 3), keepdim=True)
    first, second = (((images - mean) / std, labels) for images, labels in made)
    return Images(training=first, test=second, classes=classes)


SETS = {
    "Fashion-MNIST, 10": ("fashion", tuple(range(10))),
    "CIFAR-10": ("cifar", tuple(range(10))),
    "Fashion-MNIST, T-shirt or shirt": ("fashion", (0, 6)),
    "CIFAR-10, cat or dog": ("cifar", (3, 5)),
}


def study(results: Results, folders: dict[str, Path | None]) -> None:
    """Every activation on every set whose images there are; what is there already is not done again."""
    found = {
        title: (fashion if kind == "fashion" else cifar)(folder, classes)
        for title, (kind, classes) in SETS.items()
        if (folder := folders[kind]) is not None
    }
    for names, norm, title in itertools.product((NAMES[:4], NAMES[4:]), (False, True), found):
        for name in names:
            row = f"images/{title}/{'BatchNorm' if norm else 'plain'}/{name}"
            trial = results.once(f"{row}/trial", partial(_trial, name, found[title], norm))
            runs = results.once(f"{row}/runs", partial(_runs, name, found[title], norm, trial["rate"]))
            print(row, f"rate {trial['rate']:g}, final accuracies {runs['final']}", flush=True)


def _trial(name: str, images: Images, norm: bool) -> dict[str, Any]:
    """The rate with the highest mean accuracy over the second quarter of the training."""
    scores = []
    for rate in RATES:
        found = train(name, images, rate, TRIAL_SEED, norm=norm, steps=STEPS // 2)["accuracy"]
        scores.append(float(np.mean(found[len(found) // 2 :])))
    return {"rate": RATES[int(np.argmax(scores))], "scores": scores}


def _runs(name: str, images: Images, norm: bool, rate: float) -> dict[str, Any]:
    runs = [train(name, images, rate, seed, norm=norm) for seed in SEEDS]
    return {
        "rate": rate,
        "accuracy": [run["accuracy"] for run in runs],
        "final": [round(final(run["accuracy"]), 4) for run in runs],
        "ms": 1e3 * float(np.mean([run["seconds"] for run in runs])) / STEPS,
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
        activation = layer(name, width, generator, local=LOCAL)
        with torch.no_grad():
            conv.weight.normal_(0, scale / math.sqrt(9 * channels), generator=generator)
            if conv.bias is not None:
                conv.bias.zero_()
            probe = torch.randn(64, width, 8, 8, generator=torch.Generator().manual_seed(0))
            scale = float(activation(probe).square().mean().rsqrt())
        modules += [conv, *([nn.BatchNorm2d(width)] if norm else []), activation]
        channels = width
    head = nn.Linear(channels, classes)
    with torch.no_grad():
        head.weight.normal_(0, 1 / math.sqrt(channels), generator=generator)
        head.bias.zero_()
    return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def train(name: str, images: Images, rate: float, seed: int, *, norm: bool, steps: int = STEPS) -> dict[str, Any]:
    """One run: accuracy at each test, and seconds spent on training."""
    pixels, labels = images.training
    model = network(name, pixels.shape[1], images.classes, seed, norm=norm)
    averaged = copy.deepcopy(model).eval()
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    order = np.random.default_rng([7, seed])
    chosen = np.concatenate([order.permutation(len(pixels)) for _ in range(STEPS * BATCH // len(pixels) + 1)])
    accuracies, seconds = [], 0.0
    for step in range(steps):
        batch = torch.from_numpy(chosen[step * BATCH : (step + 1) * BATCH])
        started = time.perf_counter()
        loss = F.cross_entropy(model(pixels[batch]), labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seconds += time.perf_counter() - started
        _follow(averaged, model)
        if step + 1 in TESTED_AT:
            accuracies.append(_accuracy(averaged, *images.test))
    return {"accuracy": accuracies, "seconds": seconds}


def _accuracy(model: nn.Module, pixels: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        parts = zip(pixels.split(250), labels.split(250), strict=True)
        return sum(int((model(some).argmax(1) == wanted).sum()) for some, wanted in parts) / len(labels)


def _follow(averaged: nn.Module, model: nn.Module) -> None:
    with torch.no_grad():
        latest = model.state_dict()
        for name, value in averaged.state_dict().items():
            if value.is_floating_point():
                value.lerp_(latest[name], 1 - AVERAGED)


def final(accuracies: Sequence[float]) -> float:
    """Accuracy at the end of training: the mean of the last three tests, all within its last twentieth."""
    return float(np.mean(accuracies[-3:]))
