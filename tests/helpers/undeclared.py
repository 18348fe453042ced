"""Networks with norms and weights that no list of layers knows: their own, frozen, per channel, computed, shared."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune
from torchvision.ops import FrozenBatchNorm2d

SHAPE = (3, 8, 8)


def example():
    return torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(1))


def seeded(kind, *arguments):
    """A network whose every parameter and buffer matters, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(*arguments)
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point() and tensor.ndim == 1 and "original" not in name:
                nn.init.uniform_(tensor, 0.5, 1.5)
    return model.eval()


class LayerNorm2d(nn.Module):
    """ConvNeXt's, over axis 1 of maps."""

    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        mean = x.mean(1, keepdim=True)
        x = (x - mean) / ((x - mean).pow(2).mean(1, keepdim=True) + 1e-6).sqrt()
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class Permuted(nn.Module):
    """A norm of torch's over the last axis, on maps."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, x):
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class L2Norm(nn.Module):
    """SSD's, with a scale for each channel."""

    def __init__(self, width):
        super().__init__()
        self.scale = nn.Parameter(torch.full((width,), 2.0))

    def forward(self, x):
        return self.scale[None, :, None, None] * x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10)


class GRN(nn.Module):
    """ConvNeXt V2's global response norm, on maps."""

    def __init__(self, width):
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(1, width, 1, 1)), nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x):
        size = x.norm(dim=(2, 3), keepdim=True)
        return self.gamma * (x * size / (size.mean(1, keepdim=True) + 1e-6)) + self.beta + x


class Scaled(nn.Module):
    """Buffers with a number for each channel."""

    def __init__(self, width):
        super().__init__()
        self.register_buffer("offset", torch.linspace(-1, 1, width))
        self.register_buffer("scale", torch.linspace(1, 2, width).view(1, -1, 1, 1), persistent=False)

    def forward(self, x):
        return (x - self.offset[:, None, None]) * self.scale


class OwnBatchNorm(nn.Module):
    """Statistics in buffers, weights in parameters, computed by hand."""

    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x):
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, 1e-5)


NORMS = {
    "frozen": FrozenBatchNorm2d,
    "instance": lambda width: nn.InstanceNorm2d(width, affine=True, track_running_stats=True),
    "plain instance": nn.InstanceNorm2d,
    "overwritten instance": lambda width: nn.Sequential(nn.InstanceNorm2d(width, affine=True), nn.ReLU(inplace=True)),
    "rms": lambda width: Permuted(nn.RMSNorm(width, eps=1e-6)),
    "layer": lambda width: Permuted(nn.LayerNorm(width)),
    "own layer norm": LayerNorm2d,
    "l2": L2Norm,
    "grn": GRN,
    "buffers": Scaled,
    "own batch norm": OwnBatchNorm,
    "local response": lambda _width: nn.LocalResponseNorm(3),
}


class Normed(nn.Module):
    """A norm between two layers."""

    def __init__(self, norm):
        super().__init__()
        self.body, self.norm = nn.Conv2d(3, 8, 3, padding=1), NORMS[norm](8)
        self.reader, self.head = nn.Conv2d(8, 6, 3, padding=1), nn.Linear(6, 5)

    def forward(self, x):
        return self.head(F.relu(self.reader(F.relu(self.norm(self.body(x))))).mean((2, 3)))


class Sloped(nn.Module):
    """A PReLU of one slope in front of a concatenation."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.act = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 6, 3, padding=1), nn.PReLU()
        self.reader, self.head = nn.Conv2d(10, 4, 3, padding=1), nn.Linear(4, 5)

    def forward(self, x):
        x = torch.cat([self.act(self.left(x)), self.act(self.right(x))], 1)
        return self.head(F.relu(self.reader(x)).mean((2, 3)))


class Multiplied(nn.Module):
    """Depthwise layers that give several channels for one, and one for several."""

    def __init__(self):
        super().__init__()
        self.stem, self.more = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1, groups=16)
        self.fewer, self.point = nn.Conv2d(32, 16, 3, padding=1, groups=16), nn.Conv2d(16, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.fewer(F.relu(self.more(F.relu(self.stem(x))))))
        return self.head(F.relu(self.point(x)).mean((2, 3)))


class Spread(nn.Module):
    """Transposed depthwise layers with a multiplier."""

    def __init__(self):
        super().__init__()
        self.stem, self.more = nn.Conv2d(3, 8, 3, 2, 1), nn.ConvTranspose2d(8, 16, 2, 2, groups=8)
        self.fewer, self.point = nn.ConvTranspose2d(16, 8, 3, padding=1, groups=8), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        return self.point(F.relu(self.fewer(F.relu(self.more(F.relu(self.stem(x)))))))


class Standardised(nn.Conv2d):
    """Weight standardisation: each filter has mean 0 and variance 1."""

    def forward(self, x):
        weight = self.weight
        weight = (weight - weight.mean((1, 2, 3), keepdim=True)) / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


def standardised(inputs, outputs):
    return Standardised(inputs, outputs, 3, padding=1)


class LoRA(nn.Module):
    """A layer and what was learned beside it, through a narrow one."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.base = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.down, self.up = nn.Conv2d(inputs, 2, 3, padding=1, bias=False), nn.Conv2d(2, outputs, 1, bias=False)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


class Chain(nn.Module):
    """Three layers of a kind in a row, and a head."""

    def __init__(self, make=lambda inputs, outputs: nn.Conv2d(inputs, outputs, 3, padding=1)):
        super().__init__()
        self.first, self.second, self.third = make(3, 8), make(8, 8), make(8, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(F.relu(self.third(F.relu(self.second(F.relu(self.first(x)))))).mean((2, 3)))


def masked():
    """Pruned by torch, with the masks still there."""
    model = Chain()
    prune.l1_unstructured(model.first, "weight", 0.5)
    prune.ln_structured(model.second, "weight", 0.25, n=1, dim=0)
    prune.random_unstructured(model.head, "bias", 0.5)
    return model


def normed(name):
    """Weights computed by one of torch's reparametrisations."""
    import warnings

    ways = {
        "weight_norm": nn.utils.weight_norm,
        "spectral_norm": nn.utils.spectral_norm,
        "new weight_norm": parametrizations.weight_norm,
        "new spectral_norm": parametrizations.spectral_norm,
    }
    model = Chain()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for layer in (model.first, model.second, model.head):
            ways[name](layer)
        model.train()(torch.randn(4, *SHAPE))
    return model


def tied():
    """Two layers with one weight, each read by the next."""
    model = Chain()
    model.third.weight = model.second.weight
    return model


class Features(nn.Module):
    """Gives its features back beside what is computed from them."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x):
        features = F.relu(self.body(x)).mean((2, 3))
        return features, self.head(features)


class Mirrored(nn.Module):
    """An autoencoder whose decoder has the encoder's weights."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave = nn.Conv2d(3, 8, 3, padding=1), nn.ConvTranspose2d(8, 3, 3, padding=1)
        self.leave.weight = self.enter.weight

    def forward(self, x):
        return self.leave(F.relu(self.enter(x)))
