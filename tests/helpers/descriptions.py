"""Models, data and plans to be described."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

from topocompress.data.loading import Data
from topocompress.models.loading import LoadedModel
from topocompress.types import (
    Architecture,
    Delivery,
    ExportCheck,
    GroupPlan,
    Latency,
    Measurement,
    Preprocessing,
    PruningPlan,
)

ARCHITECTURE = Architecture(kind="torchvision", name="resnet18", options={"num_classes": 3})
PLAN = PruningPlan(
    model="m",
    rule={"max_betti": 300, "max_ratio": 0.5},
    criterion="betti",
    groups=(
        GroupPlan(root="a", width=8, remove=(1, 2, 5), dead=(2,), above=4, coupled=("a", "b")),
        GroupPlan(root="c", width=4),
        GroupPlan(root="head", width=10, protected="feeds the model's output"),
    ),
    macs_before=1000,
    macs_after=600,
)


def loaded(note="", history=()):
    return LoadedModel(
        module=nn.Identity(),
        architecture=ARCHITECTURE,
        preprocessing=Preprocessing(input_shape=(3, 32, 48)),
        source="model.pt",
        note=note,
        history=history,
    )


def samples(count):
    return TensorDataset(torch.zeros(count, 1))


def data(note="", skipped=(), train=7, source="imagefolder:photos"):
    return Data(
        calibration=samples(5),
        train=None if train is None else samples(train),
        evaluation=samples(3),
        labelled=True,
        classes=("cat", "dog"),
        source=source,
        note=note,
        skipped=skipped,
        fingerprint="sha256:2",
    )


def sides(*medians):
    """Before and after, from (before, after) medians of batches 1, 2, ..."""
    return tuple(
        Measurement(
            parameters=1,
            macs=1,
            latency=tuple(
                Latency(batch=batch, median_ms=pair[side], p95_ms=99.0, runs=5) for batch, pair in enumerate(medians, 1)
            ),
        )
        for side in (0, 1)
    )


def delivery(*medians, **extra):
    before, after = sides(*medians)
    check = ExportCheck(samples=1, max_abs=0.0, max_rel=0.0, top1_agreement=1.0, opset=18)
    return Delivery(before=before, after=after, export=check, **extra)
