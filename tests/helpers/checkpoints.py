"""Checkpoints in the forms in which trainers write them, around one small network."""

from __future__ import annotations

import argparse
import copy
import json
import pathlib
import pickle
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel


class Net(nn.Module):
    """Two convolutions with a norm, and a head."""

    def __init__(self, num_classes=3, width=4):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.Sequential(nn.Conv2d(width, width, 3), nn.ReLU())
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


class Config(dict):
    """A dictionary with attributes, as configurations are."""


class Wrapped(nn.Module):
    """A network inside a module of another name."""

    def __init__(self, **inner):
        super().__init__()
        for name, module in inner.items():
            setattr(self, name, module)


def net(seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Net(**options).eval()


RAW, AVERAGED = net(1), net(2)


def raw():
    return RAW.state_dict()


def averaged():
    return AVERAGED.state_dict()


def under(prefix, state):
    return {prefix + key: value for key, value in state.items()}


def inside(wrapper, state):
    """As FSDP, activation checkpointing and torch.compile of single blocks name the weights."""
    return {key.replace("blocks.", f"blocks.{wrapper}."): value for key, value in state.items()}


def optimiser():
    model = copy.deepcopy(RAW)
    made = torch.optim.Adam(model.parameters())
    model(torch.zeros(1, 3, 8, 8)).sum().backward()
    made.step()
    return made.state_dict()


def swa():
    return AveragedModel(AVERAGED).state_dict()


def arrays(state):
    return {key: value.numpy() for key, value in state.items()}


def namespace():
    return argparse.Namespace(lr=0.1, out=pathlib.PurePosixPath("/runs"))


def by_torch(contents, **options):
    def write(folder: Path) -> Path:
        torch.save(contents(), folder / "model.pt", **options)
        return folder / "model.pt"

    return write


def pickled(contents, protocol):
    def write(folder: Path) -> Path:
        (folder / "model.pkl").write_bytes(pickle.dumps(contents(), protocol=protocol))
        return folder / "model.pkl"

    return write


def safetensors(folder: Path) -> Path:
    save_file(raw(), folder / "model.safetensors")
    return folder / "model.safetensors"


def sharded(kind, as_folder):
    """Hugging Face's form of large models: parts, and an index that says which tensor is in which."""

    def write(folder: Path) -> Path:
        state, stem = raw(), "model" if kind == "safetensors" else "pytorch_model"
        index = {}
        for number, keys in enumerate((list(state)[::2], list(state)[1::2])):
            name = f"{stem}-{number + 1:05d}-of-00002.{kind}"
            part = {key: state[key] for key in keys}
            save_file(part, folder / name) if kind == "safetensors" else torch.save(part, folder / name)
            index.update(dict.fromkeys(keys, name))
        file = folder / f"{stem}.{kind}.index.json"
        file.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": index}), encoding="utf-8")
        return folder if as_folder else file

    return write


def training(**more):
    return {"epoch": 3, "best_acc1": 0.5, "optimizer": optimiser(), **more}


def two_layers():
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
