"""Networks of layers beyond Conv2d and Linear: 1-D, 3-D, transposed and recurrent, and inputs for them."""

import torch
import torch.nn.functional as F
from torch import nn

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
SIDES = {1: 32, 2: 8, 3: 8}


def shape(dims, channels=2):
    """Of one sample."""
    return (channels, *[SIDES[dims]] * dims)


def seeded(kind, *arguments, inputs):
    """A network with weights and BatchNorm statistics that are far from their initial values, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(*arguments).train()
        for module in model.modules():
            if isinstance(module, tuple(NORMS.values())):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
        with torch.no_grad():
            model(torch.randn(16, *inputs) * 2 + 0.5)
    return model.eval()


class Classifier(nn.Module):
    """Two convolutions with a norm, a residual block, one that is grouped and one that is depthwise, then a head."""

    def __init__(self, dims):
        super().__init__()
        conv, norm = CONVS[dims], NORMS[dims]
        self.dims = dims
        self.stem, self.norm = conv(2, 8, 3, padding=1), norm(8)
        self.inner, self.outer = conv(8, 6, 3, padding=1), conv(6, 8, 3, padding=1)
        self.grouped = conv(8, 16, 3, padding=1, groups=4)
        self.deep, self.point = conv(16, 16, 3, padding=1, groups=16), conv(16, 10, 1)
        self.head = nn.Linear(10, 5)

    def forward(self, x):
        x = POOLS[self.dims](F.relu(self.norm(self.stem(x))), 2)
        x = F.relu(x + self.outer(F.relu(self.inner(x))))
        x = F.relu(self.point(F.relu(self.deep(F.relu(self.grouped(x))))))
        return self.head(x.flatten(2).mean(2))


class Flattened(nn.Module):
    """Maps laid end to end in front of a linear layer."""

    def __init__(self, dims):
        super().__init__()
        self.dims = dims
        self.body, self.norm = CONVS[dims](2, 6, 3, padding=1), NORMS[dims](6)
        self.hidden, self.head = nn.Linear(6 * (SIDES[dims] // 4) ** dims, 8), nn.Linear(8, 5)

    def forward(self, x):
        return self.head(F.relu(self.hidden(POOLS[self.dims](F.relu(self.norm(self.body(x))), 4).flatten(1))))


class AutoEncoder(nn.Module):
    """Down by strides, up by transposed convolutions; the last one gives images."""

    def __init__(self, dims):
        super().__init__()
        conv, up, norm = CONVS[dims], TRANSPOSED[dims], NORMS[dims]
        self.first, self.second = conv(2, 8, 3, 2, 1), conv(8, 12, 3, 2, 1)
        self.third, self.norm = up(12, 8, 4, 2, 1), norm(8)
        self.last = up(8, 2, 4, 2, 1)

    def forward(self, x):
        x = F.relu(self.second(F.relu(self.first(x))))
        return self.last(F.relu(self.norm(self.third(x))))


class UNet(nn.Module):
    """A contracting and an expanding path, transposed convolutions and concatenations between them."""

    def __init__(self, dims):
        super().__init__()
        conv, up, norm = CONVS[dims], TRANSPOSED[dims], NORMS[dims]
        self.dims = dims
        self.enter, self.down, self.norm = conv(2, 6, 3, padding=1), conv(6, 10, 3, padding=1), norm(10)
        self.bottom, self.up = conv(10, 12, 3, padding=1), up(12, 10, 2, 2)
        self.merge, self.again = conv(20, 8, 3, padding=1), up(8, 6, 2, 2)
        self.join, self.out = conv(12, 6, 3, padding=1), conv(6, 3, 1)

    def forward(self, x):
        one = F.relu(self.enter(x))
        two = F.relu(self.norm(self.down(POOLS[self.dims](one, 2))))
        x = self.up(F.relu(self.bottom(POOLS[self.dims](two, 2))))
        x = self.again(F.relu(self.merge(torch.cat([two, x], 1))))
        return self.out(F.relu(self.join(torch.cat([x, one], 1))))


class Upsampled(nn.Module):
    """Transposed convolutions in groups: of several channels, and depthwise."""

    def __init__(self, dims):
        super().__init__()
        conv, up = CONVS[dims], TRANSPOSED[dims]
        self.stem, self.grouped = conv(2, 8, 3, 2, 1), up(8, 16, 2, 2, groups=4)
        self.deep, self.out = up(16, 16, 3, padding=1, groups=16), conv(16, 3, 1)

    def forward(self, x):
        return self.out(F.relu(self.deep(F.relu(self.grouped(F.relu(self.stem(x)))))))


class Recurrent(nn.Module):
    """A convolution read by a recurrent layer along the time axis."""

    def __init__(self, kind=nn.LSTM, layers=1, both=False, first=True):
        super().__init__()
        self.stem, self.norm, self.body = nn.Conv1d(2, 8, 3, padding=1), nn.BatchNorm1d(8), nn.Conv1d(8, 6, 3)
        self.memory = kind(6, 5, num_layers=layers, bidirectional=both, batch_first=first)
        self.first, self.head = first, nn.Linear(10 if both else 5, 4)

    def forward(self, x):
        x = F.relu(self.body(F.relu(self.norm(self.stem(x)))))
        x, _ = self.memory(x.permute(0, 2, 1) if self.first else x.permute(2, 0, 1))
        return self.head(x[:, -1] if self.first else x[-1])


def data(dims, *, labels):
    """Noise in three parts that never overlap, finished as networks take it."""
    from topocompress.data.loading import Data

    inputs = torch.randn(64, *shape(dims), generator=torch.Generator().manual_seed(2))
    items = [(each, number % 4 if labels else -1) for number, each in enumerate(inputs)]
    return Data(
        calibration=items[:32],
        train=items[32:48],
        evaluation=items[48:],
        labelled=labels,
        classes=(),
        source="noise",
        note="",
        skipped=(),
        fingerprint="noise",
    )
