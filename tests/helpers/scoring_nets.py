"""Networks and samples for scoring, small enough to know every number."""

import torch
from torch import Tensor, nn

from tests.helpers.shapes import circle

POINTS = 12


class Filters(nn.Module):
    """1×1 filters of one input channel with known weights and biases, an activation, and a pooling."""

    def __init__(self, weights, biases=None, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, len(weights), 1)
        self.activation = activation or nn.Identity()
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor(weights).reshape(-1, 1, 1, 1))
            self.conv.bias.copy_(torch.zeros(len(weights)) if biases is None else torch.tensor(biases))

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.conv(x)).mean(dim=(2, 3))


def on_a_circle(size: int = 5) -> list[tuple[Tensor, Tensor]]:
    """Samples of one channel and two pixels, which lie on the unit circle."""
    samples = torch.tensor(circle(POINTS), dtype=torch.float32).reshape(-1, 1, 1, 2)
    return [(part, torch.zeros(len(part))) for part in samples.split(size)]


def network() -> nn.Module:
    """Three layers, "0", "3" and "5", of 5, 4 and 3 filters; 5·5, 3·3 and 1 features."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            *(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3)),
            *(nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
        )


LAYERS = ("0", "3", "5")
FILTERS = {"0": 5, "3": 4, "5": 3}
FEATURES = {"0": 25, "3": 9, "5": 1}


def noise(samples: int = 20, size: int = 6, seed: int = 2) -> list[tuple[Tensor, Tensor]]:
    x = torch.randn(samples, 2, 7, 7, generator=torch.Generator().manual_seed(seed))
    return [(part, torch.zeros(len(part))) for part in x.split(size)]


def plain(scores) -> dict:
    """The numbers of all layers, to be compared."""
    return {
        name: (layer.values.tolist(), {part: v.tolist() for part, v in layer.parts.items()}, layer.dead.tolist())
        for name, layer in scores.layers.items()
    }
