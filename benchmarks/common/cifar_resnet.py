"""The ResNet for CIFAR of He et al. (arXiv:1512.03385, section 4.2), with shortcuts that subsample and zero-pad."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

INNER_ONLY = ("conv1", "layer*.conv2")
"""Patterns of the layers on the padded residual stream; with these ignored, the inner filters remain."""


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut without weights."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.pad = (outputs - inputs) // 2

    def forward(self, images: Tensor) -> Tensor:
        """(samples, inputs, h, w) -> (samples, outputs, h / stride, w / stride)."""
        shortcut = images[:, :, :: self.stride, :: self.stride]
        if self.pad:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, self.pad, self.pad))
        maps = F.relu(self.bn1(self.conv1(images)))
        return F.relu(self.bn2(self.conv2(maps)) + shortcut)


class CifarResNet(nn.Module):
    """(samples, 3, 32, 32) -> (samples, 10) logits; depth is 6 · blocks + 2."""

    input_shape = (3, 32, 32)

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, 1)
        self.layer2 = self._stage(16, 32, blocks, 2)
        self.layer3 = self._stage(32, 64, blocks, 2)
        self.linear = nn.Linear(64, 10)

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
        rest = [Block(outputs, outputs, 1) for _ in range(blocks - 1)]
        return nn.Sequential(Block(inputs, outputs, stride), *rest)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (samples, 10)."""
        maps = F.relu(self.bn1(self.conv1(images)))
        maps = self.layer3(self.layer2(self.layer1(maps)))
        logits: Tensor = self.linear(maps.mean(dim=(2, 3)))
        return logits


def resnet20() -> CifarResNet:
    """Depth 20, 0.27 M parameters."""
    return CifarResNet(3)


def resnet56() -> CifarResNet:
    """Depth 56, 0.85 M parameters."""
    return CifarResNet(9)
