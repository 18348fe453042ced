"""Networks of timm, whose outputs tell inputs apart; nothing is downloaded."""

from __future__ import annotations

import timm
import torch
from torch import nn

NETWORKS = ("resnet10t", "mobilenetv3_small_050", "efficientnet_lite0", "convnext_atto", "regnetx_002")
SIDE = 64


def images(count: int, side: int = SIDE) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def informative(name: str, **options) -> nn.Module:
    """Seeded, BatchNorm statistics estimated on data, no zeroed branches: outputs tell inputs apart."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(name, pretrained=False, **options)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
                module.momentum = None
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
        for key, parameter in model.named_parameters():
            if key.endswith("gamma"):  # ConvNeXt starts its branches at a millionth
                nn.init.uniform_(parameter, 0.5, 1.5)
        with torch.no_grad():
            model.train()(images(16))
    return model.eval()
