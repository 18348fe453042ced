"""Small networks, samples, and the maps that the library takes from them."""

import torch
from torch import Tensor, nn

from topocompress.network.capture import Slice, collect_clouds, map_shapes


def seeded(build) -> nn.Module:
    """A network with norms that do something, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build()
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return model.eval()


def images(count: int, *shape: int) -> Tensor:
    return torch.randn(count, *(shape or (3, 6, 6)), generator=torch.Generator().manual_seed(1))


def split(samples: Tensor, size: int = 3) -> list[tuple[Tensor, Tensor]]:
    return [(part, torch.zeros(len(part))) for part in samples.split(size)]


def captured(model: nn.Module, layers, samples: Tensor, size: int = 3) -> dict[str, Tensor]:
    """Layer → (samples, channels, features), through the library."""
    slices = [
        Slice(layer=layer, start=0, stop=channels, features=features)
        for layer, (channels, features) in map_shapes(model, layers, samples[:1]).items()
    ]
    clouds = collect_clouds(model, slices, split(samples, size), len(samples))
    return {part.layer: torch.from_numpy(cloud).transpose(0, 1) for part, cloud in zip(slices, clouds, strict=True)}


class Net(nn.Module):
    """Parts by name; any function of them and the input as the forward pass, then a pooling."""

    def __init__(self, run, **parts: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor):
        return self.run(self, x).mean(dim=-1)


def conv(inputs: int = 3, outputs: int = 4) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
