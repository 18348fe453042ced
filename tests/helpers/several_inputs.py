"""Networks that take more than one tensor, and noise for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from tests.helpers.output_kinds import images, unlabelled
from topocompress.data.loading import Data

WORDS = 11


class Both(nn.Module):
    """An image and a few words, each numbers of a vocabulary, seen together."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.words, self.hidden = nn.Embedding(WORDS, 8), nn.Linear(8, 16)
        self.head = nn.Linear(32, 5)

    def seen(self, image: Tensor, words: Tensor) -> Tensor:
        maps = F.relu(self.second(F.relu(self.first(image))))
        said = F.relu(self.hidden(self.words(words).mean(1)))
        return self.head(torch.cat([maps.mean((2, 3)), said], 1))


class Positional(Both):
    """``forward(image, words)``."""

    def forward(self, image: Tensor, words: Tensor) -> Tensor:
        return self.seen(image, words)


class Starred(Both):
    """``forward(*inputs)``."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.seen(*inputs)


class Named(Both):
    """``forward(words=, image=)``, with an option."""

    def forward(self, words: Tensor, image: Tensor, scale: float = 1.0) -> Tensor:
        return scale * self.seen(image, words)


class OneDict(Both):
    """``forward(batch)``."""

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return self.seen(batch["image"], batch["words"])


FORMS = {"positional": Positional, "starred": Starred, "named": Named, "dict": OneDict}


def example_inputs(form: str) -> Any:
    """What ``forward`` takes, with one sample."""
    pair = torch.zeros(1, 3, 16, 16), torch.zeros(1, 4, dtype=torch.long)
    return pair if form in ("positional", "starred") else {"image": pair[0], "words": pair[1]}


def made(form: str) -> Both:
    """A network with seeded weights, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return FORMS[form]().eval()


def positional() -> nn.Module:
    """A factory; what its network takes stands on it."""
    return made("positional")


def named() -> nn.Module:
    """Another."""
    return made("named")


positional.example_inputs = example_inputs("positional")
named.example_inputs = lambda: example_inputs("named")


class Pairs(Dataset):
    """Noise: (image, words), or both in a dict; with a label."""

    def __init__(self, start: int, stop: int, *, named: bool) -> None:
        self.images = images()[start:stop]
        self.words = torch.randint(0, WORDS, (stop - start, 4), generator=torch.Generator().manual_seed(start))
        self.named = named

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if index >= len(self):
            raise IndexError(index)
        pair = self.images[index], self.words[index]
        return (dict(zip(("image", "words"), pair, strict=True)) if self.named else pair), index % 5


def pairs() -> Dataset:
    """A factory of data."""
    return Pairs(0, 60, named=False)


def data_for(form: str, **changes: Any) -> Data:
    """Loaded data."""
    named = form in ("named", "dict")
    parts = {
        use: Pairs(*limits, named=named)
        for use, limits in {"calibration": (0, 40), "train": (40, 64), "evaluation": (64, 96)}.items()
    }
    return replace(unlabelled(), **parts, **changes)
