"""Inputs and amplitudes of topological activations."""

import torch

from topocompress import TopologicalActivation


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def with_amplitudes(*values, **options):
    made = TopologicalActivation(len(values), **options)
    with torch.no_grad():
        made.amplitude.copy_(torch.tensor(values))
    return made
