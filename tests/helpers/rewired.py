"""Networks whose channels are split, joined, gated and spread out by operations, and not by layers."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers.tiny_nets import conv


class Rewired(nn.Module):
    """A layer, something done to its channels, a layer that reads what comes out of it."""

    def __init__(self, width, outputs, how):
        super().__init__()
        self.body, self.reader, self.head = conv(3, width), conv(outputs, 6), nn.Linear(6, 5)
        self.how = how

    def forward(self, x):
        return self.head(F.relu(self.reader(self.how(F.relu(self.body(x))))).mean((2, 3)))


class C2f(nn.Module):
    """YOLO's: one half goes through blocks, each adding a part; the parts are read more than once."""

    def __init__(self, blocks=2):
        super().__init__()
        self.enter, self.leave = conv(3, 8), nn.Conv2d((2 + blocks) * 4, 8, 1)
        self.blocks = nn.ModuleList(nn.Sequential(conv(4, 4), nn.SiLU(), conv(4, 4)) for _ in range(blocks))
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        parts = list(F.relu(self.enter(x)).chunk(2, 1))
        for block in self.blocks:
            parts.append(parts[-1] + block(parts[-1]))
        return self.head(F.relu(self.leave(torch.cat(parts, 1))).mean((2, 3)))


class Coordinates(nn.Module):
    """CoordConv: constants concatenated with maps, between them and at the end."""

    def __init__(self):
        super().__init__()
        self.left, self.right = conv(3, 4), conv(3, 6)
        self.reader, self.head = conv(12, 6), nn.Linear(6, 5)

    def forward(self, x):
        places = torch.linspace(0, 1, x.shape[3]).expand(len(x), 2, *x.shape[2:])
        return self.head(F.relu(self.reader(torch.cat([self.left(x), places, self.right(x)], 1))).mean((2, 3)))


class Shared(nn.Module):
    """One PReLU of a single slope behind layers of several widths, which are then concatenated."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.act = conv(3, 4), conv(3, 6), nn.PReLU()
        self.reader, self.head = conv(10, 4), nn.Linear(4, 5)

    def forward(self, x):
        x = torch.cat([self.act(self.left(x)), self.act(self.right(x))], 1)
        return self.head(self.act(self.reader(x)).mean((2, 3)))


class Upscaler(nn.Module):
    """EDSR's end: sub-pixel convolution between two layers."""

    def __init__(self):
        super().__init__()
        self.body, self.up, self.out = conv(3, 8), conv(8, 16), conv(4, 3)

    def forward(self, x):
        return self.out(F.relu(F.pixel_shuffle(self.up(F.relu(self.body(x))), 2)))


class Downscaler(nn.Module):
    """Space to depth between two layers."""

    def __init__(self):
        super().__init__()
        self.body, self.down, self.head = conv(3, 4), conv(16, 8), nn.Linear(8, 5)

    def forward(self, x):
        return self.head(F.relu(self.down(F.pixel_unshuffle(F.relu(self.body(x)), 2))).mean((2, 3)))


class Gated(nn.Module):
    """CBAM: a gate for each channel, then one for each place, from the mean and the largest of all channels."""

    def __init__(self):
        super().__init__()
        self.body, self.squeeze, self.excite = conv(3, 8), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.gate, self.reader, self.head = nn.Conv2d(2, 1, 7, padding=3), conv(8, 6), nn.Linear(6, 5)

    def forward(self, x):
        x = F.relu(self.body(x))
        x = x * torch.sigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        seen = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
        return self.head(F.relu(self.reader(x * torch.sigmoid(self.gate(seen)))).mean((2, 3)))


def shuffle(x):
    samples, channels, height, width = x.shape
    x = x.view(samples, 2, channels // 2, height, width)
    return x.transpose(1, 2).contiguous().view(samples, channels, height, width)


def crop(x):
    return x[:, :, 1:-1, 2:]


def halves(x):
    one, two = x.chunk(2, 1)
    return one * torch.sigmoid(two)


def one_half_twice(x):
    one, two = x.chunk(2, 1)
    return torch.cat([one, two, one + two], 1)


def quarters(x):
    return torch.cat(x.chunk(4, 1)[1:], 1)


# Network, units of every group that can go, MACs left at most when half of them do.
EXPECTED = [
    (lambda: Rewired(8, 8, crop), {"body": 8, "reader": 6}, 0.37),
    (lambda: Rewired(8, 4, lambda x: F.glu(x, 1)), {"body": 4, "reader": 6}, 0.38),
    (lambda: Rewired(8, 4, halves), {"body": 4, "reader": 6}, 0.38),
    (lambda: Rewired(8, 4, lambda x: x.chunk(2, 1)[1]), {"body": 4, "reader": 6}, 0.38),
    (lambda: Rewired(8, 12, one_half_twice), {"body": 4, "reader": 6}, 0.32),
    (lambda: Rewired(8, 6, quarters), {"body": 2, "reader": 6}, 0.36),
    (lambda: Rewired(8, 4, lambda x: sum(x.chunk(2, 1))), {"body": 4, "reader": 6}, 0.38),
    (lambda: Rewired(8, 8, shuffle), {"body": 4, "reader": 6}, 0.34),
    (lambda: Rewired(8, 8, lambda x: F.channel_shuffle(x, 4)), {"body": 2, "reader": 6}, 0.34),
    (Gated, {"body": 8, "reader": 6, "gate": 1, "squeeze": 4}, 0.45),
    (C2f, {"enter": 4, "leave": 8, "blocks.0.0": 4, "blocks.1.0": 4}, 0.31),
    (Coordinates, {"left": 4, "right": 6, "reader": 6}, 0.36),
    (Shared, {"left": 4, "right": 6, "reader": 4}, 0.36),
    (Upscaler, {"body": 8, "up": 4}, 0.35),
    (Downscaler, {"body": 4, "down": 8}, 0.32),
]
