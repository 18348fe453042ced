"""A network whose filters are known, and how they are looked at."""

import torch
from torch import nn

from topocompress import inspect_filter


class Filters(nn.Module):
    """1×1 filters of one input channel with known weights and biases, then ReLU where asked for."""

    def __init__(self, weights=(1.0,), biases=None, *, relu=False):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, len(weights), 1), nn.ReLU() if relu else nn.Identity(), nn.Dropout())
        self.unused = nn.Conv2d(1, 3, 1)
        self.head = nn.Linear(len(weights), 2)
        with torch.no_grad():
            self.body[0].weight.copy_(torch.tensor(weights).reshape(-1, 1, 1, 1))
            self.body[0].bias.copy_(torch.zeros(len(weights)) if biases is None else torch.tensor(biases))

    def forward(self, x):
        return self.head(self.body(x).mean(dim=(2, 3)))


def samples_of(points, labels=None, size=5):
    """Batches whose samples are one channel and one row of pixels: the points."""
    x = torch.tensor(points, dtype=torch.float32)[:, None, None, :]
    y = -torch.ones(len(x), dtype=torch.int64) if labels is None else torch.as_tensor(labels)
    return list(zip(x.split(size), y.split(size), strict=True))


def seen(points, model=None, *, layer="body.0", filter_index=0, labels=None, **options):
    torch.manual_seed(0)
    return inspect_filter(
        model or Filters(), samples_of(points, labels), layer=layer, filter_index=filter_index, **options
    )
