"""The networks of the table, built: the same ones every time, with weights that say something."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks.networks_of_others.table import TABLE


def _settle(model: nn.Module, noise: Tensor) -> None:
    """Let norms take their statistics from noise."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all that they see
        norm.train()
    with torch.no_grad():
        model(noise)
    model.eval()


def build(name: str) -> nn.Module:
    """A network of the table with random weights, the same every time, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = TABLE[name].make().eval()
        for module in model.modules():
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                if tensor.is_floating_point() and tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all()):
                    with torch.no_grad():  # a norm, bias or scale that says nothing yet
                        tensor.add_(torch.empty_like(tensor).uniform_(0.0, 0.5))
        if TABLE[name].settled:
            _settle(model, torch.randn(8, *TABLE[name].shape))
    return model.requires_grad_(True)
