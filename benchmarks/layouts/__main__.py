"""The command of ``benchmarks.layouts``."""

from __future__ import annotations

import statistics
import time

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from benchmarks import layouts
from benchmarks.common.commands import parser_of
from topocompress.network.inference import main_output
from topocompress.network.memory_layout import laid_out
from topocompress.reporting import environment

NETWORKS = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0", "densenet121", "vgg11_bn",
            "shufflenet_v2_x1_0", "regnet_x_400mf", "convnext_tiny")  # fmt: skip
ROUNDS = 5


def step(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Seconds of a forward and a backward pass."""
    started = time.perf_counter()
    torch.autograd.backward(F.cross_entropy(main_output(model(images)), labels))
    model.zero_grad()
    return time.perf_counter() - started


def main() -> None:
    parser = parser_of(layouts)
    parser.add_argument("names", nargs="*", default=NETWORKS)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=128, help="pixels of a side")
    given = parser.parse_args()
    noise = torch.randn(given.batch, 3, given.size, given.size, generator=torch.Generator().manual_seed(0))
    images = [laid_out(noise, layout) for layout in (torch.contiguous_format, torch.channels_last)]
    labels = torch.arange(given.batch) % 10
    machine = environment.describe()
    print(f"{machine['processor']}, {machine['threads']} threads, torch {torch.__version__}")
    print("\n| network | step, usual layout / channels last |\n|---|---:|")
    for name in given.names:
        torch.manual_seed(0)
        model = torchvision.models.get_model(name, weights=None, num_classes=10).train()
        rounds = [[step(model, batch, labels) for batch in images] for _ in range(1 + ROUNDS)][1:]
        usual, last = (statistics.median(times) for times in zip(*rounds, strict=True))
        print(f"| {name} | {usual / last:.2f} |", flush=True)


if __name__ == "__main__":
    main()
