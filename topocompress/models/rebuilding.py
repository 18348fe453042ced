"""Whether a network that a factory builds is the same one when it is built again."""

from __future__ import annotations

import torch
from torch import nn

from topocompress.errors import ModelError
from topocompress.models.architectures import build
from topocompress.network.copying import copied
from topocompress.network.inference import all_outputs, evaluating, run_forward
from topocompress.types import Architecture, Preprocessing


def check_rebuilt(module: nn.Module, architecture: Architecture, preprocessing: Preprocessing) -> None:
    """Build a network again, give it the same weights, and compare what both compute for noise.

    What a network draws at random and does not keep among its weights is not that with which it was trained, and a run
    could not be loaded again.

    Args:
        module: The network, in eval mode; left as it was.
        architecture: What built it; any but a factory is known to give the same.
        preprocessing: With the shape of its input.

    Raises:
        ModelError: It is another network each time.
    """
    if architecture.kind != "factory":
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch.initial_seed() ^ 1)  # so that nothing is alike by chance
        again = build(architecture).float()
    try:
        again.load_state_dict(module.state_dict())
    except RuntimeError as error:
        raise ModelError(
            f"{architecture.name} gives a network with other weights each time: {str(error).splitlines()[-1].strip()}",
            hint="Let it depend on its arguments only (--arch-args), so that a run can be loaded again.",
        ) from error
    inputs = torch.randn(1, *preprocessing.input_shape, generator=torch.Generator().manual_seed(0))
    found = []
    for network in (copied(module), again):
        with evaluating(network):
            found.append(all_outputs(run_forward(network, inputs)))
    if not _alike(*found):
        raise ModelError(
            f"{architecture.name} gives a network that computes something else each time, with the same weights",
            hint="It holds what is drawn at random or counted. Keep that among its weights (register_buffer), or seed "
            "it in the factory; otherwise a run could not be loaded again.",
        )


def _alike(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return len(first) == len(second) and all(
        one.shape == two.shape and torch.allclose(one, two, rtol=1e-4, atol=1e-6, equal_nan=True)
        for one, two in zip(first, second, strict=True)
    )
