"""Runs of a pruned network, whole or to be spoiled."""

import copy
import functools
import json

import pytest
import torch

import topocompress
from topocompress.models.loading import load_model
from topocompress.runtime.outputs import MANIFEST
from topocompress.surgery.run_directory import _own_digest
from topocompress.types import Architecture, Preprocessing

SMALL = Preprocessing(input_shape=(3, 8, 8), resize=9, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0))
SQUEEZENET = Architecture(kind="torchvision", name="squeezenet1_1", options={"num_classes": 4})


def pruned(model, inputs, times=1):
    """The model after ``times`` plans, and the plans."""
    plans = []
    for _ in range(times):
        scores = topocompress.score(model, criterion="l1", example=inputs)
        plans.append(topocompress.plan(model, scores, example=inputs, ratio=0.3, round_to=1))
        model = topocompress.apply(model, plans[-1], example=inputs)
    return model.eval(), plans


def trained_digits(times=1):
    model, description, inputs = _trained_digits(times)
    return copy.deepcopy(model), description, inputs


@functools.cache
def _trained_digits(times):
    loaded = load_model("digits")
    inputs = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    model, plans = pruned(loaded.module, inputs, times)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)  # as if it had been tuned
    return model, {"plans": plans, "preprocessing": loaded.preprocessing, "architecture": loaded.architecture}, inputs


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run of the digits network, pruned once; not to be written to."""
    path = tmp_path_factory.mktemp("saved") / "run"
    model, description, inputs = trained_digits()
    topocompress.save(path, model, **description, classes=[str(digit) for digit in range(10)])
    return path, model, inputs


@pytest.fixture
def run(saved, tmp_path):
    """A copy of that run, to be spoiled."""
    copied = tmp_path / "run"
    copied.mkdir()
    for file in saved[0].iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    return copied


def edited(run, change):
    """Edit plan.json, with a fingerprint that fits."""
    manifest = json.loads((run / MANIFEST).read_text(encoding="utf-8"))
    change(manifest)
    manifest["fingerprint"] = _own_digest(manifest)
    (run / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
