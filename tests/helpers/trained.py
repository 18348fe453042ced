"""A tiny network trained on real digits, so that outputs carry information; built once per test run."""

import copy
import functools

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from topocompress.training.finetuning import finetune
from topocompress.training.recipe import Recipe


def untrained() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(16 * 9, 10),
        )


@functools.cache
def digits() -> tuple[Tensor, Tensor]:
    found = load_digits()
    return torch.tensor(found.images / 16, dtype=torch.float32)[:, None], torch.tensor(found.target)


def training_part() -> TensorDataset:
    images, labels = digits()
    return TensorDataset(images[:1200], labels[:1200])


def held_out_part() -> TensorDataset:
    images, labels = digits()
    return TensorDataset(images[1200:], labels[1200:])


@functools.cache
def _trained() -> nn.Module:
    return finetune(untrained(), training_part(), Recipe(epochs=5, lr=0.1, batch_size=64)).model


def trained() -> nn.Module:
    return copy.deepcopy(_trained())
