"""A task that a network of a few filters solves without a mistake, in images of any depth: which way stripes run."""

import numpy as np
import torch
from torch import nn

FACTORY = """
from tests.helpers.stripes import stripes_net

def build(): return stripes_net()

def sized(): return stripes_net()
sized.input_shape = (3, 32, 32)

def flat(): return stripes_net(pooled=False)
"""


def stripes_net(*, pooled=True):
    """Edges across and along, summed over the image; four more filters see next to nothing."""
    edge = torch.tensor([[1.0, 0.0, -1.0]] * 3)
    first, second = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Conv2d(8, 8, 1, bias=False)
    head = nn.Linear(8 if pooled else 8 * 32 * 32, 2)
    with torch.no_grad():
        first.weight.normal_(0, 0.01, generator=torch.Generator().manual_seed(0))
        for filter_, kernel in enumerate((edge.T, -edge.T, edge, -edge)):
            first.weight[filter_] = kernel.expand(3, 3, 3)
        second.weight.copy_(torch.eye(8)[:, :, None, None])
        head.weight.zero_()
        head.bias.zero_()
        head.weight[0, :2] = head.weight[1, 2:4] = 1
    body = [nn.AdaptiveAvgPool2d(1), nn.Flatten()] if pooled else [nn.Flatten()]
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), *body, head).eval()


def write_stripes(folder, save, *, count=30, suffix=".png"):
    """``count`` images of each class, across and along; ``save(path, image)`` writes (32, 32) floats of 0..1."""
    rng = np.random.default_rng(0)
    for kind in ("across", "along"):
        (folder / kind).mkdir(parents=True)
        for index in range(count):
            period = rng.integers(4, 9)
            line = (np.arange(32) + rng.integers(period)) % period < period // 2
            image = np.tile(line, (32, 1)) * rng.uniform(0.4, 1.0) * (1 - rng.uniform(0, 0.1, (32, 32)))
            save(folder / kind / f"{index:03d}{suffix}", image.T if kind == "across" else image)
    return f"imagefolder:{folder}"
