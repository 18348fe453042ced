"""What removing one filter alone does to a ResNet for CIFAR, and how well scores rank filters by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn

from benchmarks.common.cifar_resnet import Block, CifarResNet

CHUNK = {"cpu": 250, "cuda": 2500}
"""Images at a time: few that their maps stay in a CPU's cache, many that a GPU is busy."""


def blocks(model: CifarResNet) -> list[tuple[str, Block]]:
    """Name of the inner layer and block, in the order in which they run."""
    return [(f"{name}.conv1", module) for name, module in model.named_modules() if isinstance(module, Block)]


@torch.no_grad()
def consult(model: CifarResNet, layer: str, images: Tensor, labels: Tensor) -> list[list[float]]:
    """Rise of the mean cross-entropy, and mean divergence, without each filter of an inner layer.

    Args:
        model: The network, in evaluation mode.
        layer: Name of the layer.
        images: (samples, 3, h, w) on the network's device.
        labels: (samples,) likewise.

    Returns:
        (filters, 2) as lists.
    """
    size = CHUNK.get(images.device.type, CHUNK["cpu"])
    parts = [_sums(model, layer, *part) for part in zip(images.split(size), labels.split(size), strict=True)]
    found: list[list[float]] = (torch.stack(parts).sum(dim=0) / len(images)).tolist()
    return found


def _sums(model: CifarResNet, layer: str, images: Tensor, labels: Tensor) -> Tensor:
    chain = blocks(model)
    place = [name for name, _ in chain].index(layer)
    block = chain[place][1]
    maps = F.relu(model.bn1(model.conv1(images)))
    for _, earlier in chain[:place]:
        maps = earlier(maps)
    shortcut = maps[:, :, :: block.stride, :: block.stride]
    if block.pad:
        shortcut = F.pad(shortcut, (0, 0, 0, 0, block.pad, block.pad))
    inner = F.relu(block.bn1(block.conv1(maps)))
    whole = block.conv2(inner)
    later = nn.Sequential(*(following for _, following in chain[place + 1 :]))

    def outputs(read: Tensor) -> Tensor:
        logits: Tensor = model.linear(later(F.relu(block.bn2(read) + shortcut)).mean(dim=(2, 3)))
        return logits.double().log_softmax(dim=1)

    before = outputs(whole)
    loss = F.nll_loss(before, labels, reduction="sum")
    found = []
    for channel in range(inner.shape[1]):
        part = slice(channel, channel + 1)
        after = outputs(whole - F.conv2d(inner[:, part], block.conv2.weight[:, part], padding=1))
        rise = F.nll_loss(after, labels, reduction="sum") - loss
        found.append(torch.stack([rise, (before.exp() * (before - after)).sum()]))
    return torch.stack(found).cpu()


def correlations(truth: list[NDArray[Any]], scores: list[list[float]]) -> tuple[float, float]:
    """Over all filters, and the mean within layers."""
    everywhere = float(spearmanr(np.concatenate(truth), np.concatenate(scores)).statistic)
    within = [spearmanr(one, other).statistic for one, other in zip(truth, scores, strict=True)]
    return everywhere, float(np.nanmean(within))
