"""Small networks, one per kind of output, and noise that they see; every filter of theirs matters."""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from topocompress.data.loading import Data

SIDE, SAMPLES = 16, 96


def images(count: int = SAMPLES) -> Tensor:
    """(count, 3, 16, 16) noise of different brightness and grain."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.randn(count, 3, 4, 4, generator=generator)
    return F.interpolate(coarse, size=SIDE) + 0.3 * torch.randn(count, 3, SIDE, SIDE, generator=generator)


class Kind(nn.Module):
    """Two convolutions, and a head: a layer for each output, and what is done with what they give."""

    input_shape = (3, SIDE, SIDE)

    def __init__(self, form, *widths: int, dense: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.form, self.dense = form, dense
        self.heads = nn.ModuleList(nn.Conv2d(16, width, 1) if dense else nn.Linear(16, width) for width in widths)

    def forward(self, x: Tensor) -> object:
        maps = F.relu(self.second(F.relu(self.first(x))))
        seen = maps if self.dense else maps.mean((2, 3))
        return self.form(*[head(seen) for head in self.heads]) if self.heads else self.form(seen)

    def centre(self) -> None:
        """Let every output be 0 in the mean, so that none is always the highest."""
        maps = F.relu(self.second(F.relu(self.first(images()))))
        for head in self.heads:
            given = head(maps if self.dense else maps.mean((2, 3)))
            head.bias -= given.transpose(0, 1).flatten(1).mean(1)


@dataclass
class Found:
    """What a network with names for its outputs returns."""

    logits: Tensor
    boxes: Tensor


def _queries(logits: Tensor, boxes: Tensor) -> dict[str, Tensor]:
    return {"logits": logits.unflatten(1, (5, 4)), "boxes": boxes.unflatten(1, (5, 4)).sigmoid()}


KINDS = {
    "binary": lambda: Kind(lambda x: x, 1),
    "one number, no axis": lambda: Kind(lambda x: x[:, 0], 1),
    "large offset": lambda: Kind(lambda x: 300 + x, 1),
    "probabilities of several labels": lambda: Kind(torch.sigmoid, 6),
    "embedding": lambda: Kind(lambda x: x),
    "normalised embedding": lambda: Kind(lambda x: F.normalize(x, dim=1), 8),
    "yolo": lambda: Kind(lambda x: torch.cat([100 + 40 * x[:, :4], x[:, 4:].sigmoid()], 1).flatten(2), 12, dense=True),
    "detr": lambda: Kind(_queries, 20, 20),
    "dataclass": lambda: Kind(Found, 5, 4),
    "crnn": lambda: Kind(lambda x: x.mean(2).permute(2, 0, 1).log_softmax(2), 7, dense=True),
    "tokens": lambda: Kind(lambda x: x.flatten(2).transpose(1, 2), 6, dense=True),
    "super-resolution": lambda: Kind(lambda x: F.pixel_shuffle(x, 2), 12, dense=True),
    "many maps": lambda: Kind(lambda x: x, 9, dense=True),
    "two heads": lambda: Kind(lambda one, other: {"colour": one, "shape": other}, 5, 3),
    "tuple": lambda: Kind(lambda one, other: (one, other), 5, 1),
}
"""No scores of classes, as far as one can see."""

CLASSIFIERS = {
    "classes": lambda: Kind(lambda x: x, 5),
    "two classes": lambda: Kind(lambda x: x, 2),
    "probabilities": lambda: Kind(lambda x: (x * x).softmax(1), 5),
    "scaled": lambda: Kind(lambda x: 30 * x, 5),
    "convolution, averaged": lambda: Kind(lambda x: x.mean((2, 3)), 5, dense=True),
    "lone entry of a dict": lambda: Kind(lambda x: {"logits": x, "loss": None}, 5),
    "segmentation": lambda: Kind(lambda x, aux: OrderedDict(out=x, aux=aux), 4, 4, dense=True),
    "probabilities of pixels": lambda: Kind(lambda x: x.softmax(1), 4, dense=True),
    "class maps": lambda: Kind(lambda x: x.argmax(1), 4, dense=True),
}


def made(make) -> nn.Module:
    """A network of a kind, with seeded weights that its biases do not drown, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.weight *= 2
        model.centre()
    return model


def broken(model: nn.Module) -> nn.Module:
    """The same with a second layer of other weights."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.second.weight.copy_(-other.second.weight.flip(0))
    return other


def unlabelled(**changes: object) -> Data:
    """Noise without labels."""
    seen = images()

    def part(start: int, stop: int) -> TensorDataset:
        return TensorDataset(seen[start:stop], torch.full((stop - start,), -1))

    facts = {"labelled": False, "classes": (), "source": "noise", "note": "", "skipped": (), "fingerprint": "sha256:0"}
    parts = {"calibration": part(0, 40), "train": part(40, 64), "evaluation": part(64, SAMPLES)}
    return Data(**{**parts, **facts, **changes})
