"""The small network that ships with topocompress, for a first try without any file of one's own."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

CHECKPOINT = Path(__file__).parent / "assets" / "digits.safetensors"
"""Its weights, trained by ``examples/train_digits.py`` on the digits that ``data`` trains on."""


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class DigitsNet(nn.Module):
    """Handwritten digits, (samples, 1, 16, 16) -> (samples, classes) logits.

    Four convolutions, the last two around a residual sum, so that both free and coupled channels occur.
    """

    input_shape = (1, 16, 16)

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = _block(1, 32)
        self.down = _block(32, 64, stride=2)
        self.inner = _block(64, 64)
        self.outer = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64))
        self.act = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(64, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (samples, classes) for images of shape (samples, 1, 16, 16)."""
        maps = self.down(self.stem(images))
        maps = self.act(maps + self.outer(self.inner(maps)))
        logits: Tensor = self.head(self.pool(maps).flatten(1))
        return logits
