"""Two small networks for CIFAR-10 that are no ResNets, and their training.

    python -m benchmarks.common.cifar_chains vgg CIFAR --bf16 --out weights/vgg-cifar10.safetensors
    python -m benchmarks.common.cifar_chains mobilenet CIFAR --epochs 6 --out weights/mobilenet-cifar10.safetensors

Takes the images in folders train/ and test/ with one folder per class, and some ten minutes of two cores each.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2 import functional as T

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EXPANSION = 4
INNER_ONLY = ("stem.0", "blocks.*.project.0", "head.0")
"""Patterns of the layers of :func:`mobilenet` between its blocks; with these ignored, the inner filters remain."""


def _step(inputs: int, outputs: int, size: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class Vgg(nn.Module):
    """(samples, 3, 32, 32) -> (samples, 10) logits: six 3×3 convolutions, after Simonyan & Zisserman (2015)."""

    input_shape = (3, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential()
        width = 3
        for number, outputs in enumerate((32, 32, 64, 64, 128, 128)):
            pool = [nn.MaxPool2d(2)] if number in (1, 3) else []
            self.features.append(nn.Sequential(*_step(width, outputs, 3), nn.ReLU(), *pool))
            width = outputs
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (samples, 10)."""
        logits: Tensor = self.head(self.features(images).mean(dim=(2, 3)))
        return logits


class Inverted(nn.Module):
    """Expansion, depthwise convolution, projection, and a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inner = EXPANSION * inputs
        self.expand = nn.Sequential(*_step(inputs, inner, 1), nn.ReLU6())
        self.depthwise = nn.Sequential(*_step(inner, inner, 3, stride=stride, groups=inner), nn.ReLU6())
        self.project = nn.Sequential(*_step(inner, outputs, 1))
        self.shortcut = inputs == outputs and stride == 1

    def forward(self, maps: Tensor) -> Tensor:
        """(samples, inputs, h, w) -> (samples, outputs, h / stride, w / stride)."""
        found: Tensor = self.project(self.depthwise(self.expand(maps)))
        return maps + found if self.shortcut else found


class MobileNet(nn.Module):
    """(samples, 3, 32, 32) -> (samples, 10) logits: six inverted residuals, after Sandler et al. (arXiv:1801.04381)."""

    input_shape = (3, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_step(3, 16, 3), nn.ReLU6())
        shapes = ((16, 24, 2), (24, 24, 1), (24, 32, 1), (32, 64, 2), (64, 64, 1), (64, 64, 1))
        self.blocks = nn.Sequential(*(Inverted(*shape) for shape in shapes))
        self.head = nn.Sequential(*_step(64, 128, 1), nn.ReLU6())
        self.classifier = nn.Linear(128, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (samples, 10)."""
        maps = self.head(self.blocks(self.stem(images)))
        logits: Tensor = self.classifier(maps.mean(dim=(2, 3)))
        return logits


NETWORKS = {"vgg": Vgg, "mobilenet": MobileNet}


def train(model: nn.Module, images: Tensor, labels: Tensor, *, epochs: int, bf16: bool) -> None:
    """SGD with a one-cycle schedule on images (n, 3, 32, 32) that are flipped and moved by up to four pixels.

    Prints the loss of each epoch. The network is changed.
    """
    batch = 128
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=steps)
    model.train()
    for epoch in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(images))[: batch * (len(images) // batch)].view(-1, batch):
            left, top = (int(each) for each in torch.randint(9, (2,)))
            moved = F.pad(images[chosen], (4, 4, 4, 4))[:, :, top : top + 32, left : left + 32]
            moved = torch.where(torch.rand(batch, 1, 1, 1) < 0.5, moved.flip(3), moved)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                logits = model(moved.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits.float(), labels[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item() * batch
        print(f"epoch {epoch + 1}/{epochs}: loss {total / len(images):.3f}", flush=True)
    model.eval()


def read(folder: Path) -> tuple[Tensor, Tensor]:
    """All images of a folder of classes, (n, 3, 32, 32) normalised, and their labels (n,)."""
    loader = DataLoader(ImageFolder(str(folder), T.pil_to_tensor), batch_size=500, num_workers=2)
    parts = [(images.clone(), labels.clone()) for images, labels in loader]
    images, labels = (torch.cat(each) for each in zip(*parts, strict=True))
    return T.normalize(images.float() / 255, list(MEAN), list(STD)), labels


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=tuple(NETWORKS))
    parser.add_argument("folders", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument(
        "--bf16", action="store_true", help="compute in bfloat16, which depthwise layers gain nothing by"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    model = NETWORKS[args.network]()
    train(model, *read(args.folders / "train"), epochs=args.epochs, bf16=args.bf16)
    with torch.no_grad():
        images, labels = read(args.folders / "test")
        right = torch.cat([model(part).argmax(1) for part in images.split(500)]) == labels
    print(f"{right.float().mean():.1%} of {len(labels)} test images")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
