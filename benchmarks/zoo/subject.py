"""A network of ``python -m benchmarks.zoo`` before it is pruned, and the images that it is looked at with."""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.common.networks import Batches, in_batches, make_informative
from topocompress.data.loading import load_data
from topocompress.deploy.measurement import count_macs
from topocompress.models.architectures import build
from topocompress.models.preprocessing import default_preprocessing
from topocompress.network.inference import main_output
from topocompress.types import Architecture, ChannelGroup, Preprocessing

SMALLER_INPUT = {"regnet_y_128gf": 224}
"""Networks that are looked at with a smaller input than that of their first published weights, which is 384 here."""

MOST_SAMPLES, FEWEST_SAMPLES, SAMPLES_MACS = 64, 8, 10**12
ESTIMATED_ON, CHECKED, CHECKED_AMONG = 16, 4, 8


@dataclass(kw_only=True)
class Subject:
    """The unpruned network and what it is looked at with.

    Attributes:
        name: Its name in torchvision.
        model: With informative weights.
        preprocessing: Its input.
        calibration: Images that scores are computed on.
        estimation: (ESTIMATED_ON, C, H, W) those of them that weights and statistics are estimated on.
        candidates: (CHECKED_AMONG, C, H, W) images that nothing was estimated on.
        held_out: (CHECKED, C, H, W) those of them that the network's outputs are looked at on.
        threads: Of PyTorch, ONNX Runtime and scoring.
        folder: For files.
        groups: Its channel groups, once they are found.
        exported: Its ONNX file; ``None`` if it has none.
    """

    name: str
    model: nn.Module
    preprocessing: Preprocessing
    calibration: Batches
    estimation: Tensor
    candidates: Tensor
    held_out: Tensor
    threads: int
    folder: Path
    groups: tuple[ChannelGroup, ...] = ()
    exported: Path | None = None

    @property
    def example(self) -> Tensor:
        """(1, C, H, W)."""
        return self.held_out[:1]

    @property
    def architecture(self) -> Architecture:
        """How to build it again."""
        return Architecture(kind="torchvision", name=self.name)


def ordinary(model: nn.Module, images: Tensor) -> Tensor:
    """(CHECKED, C, H, W) images to which the network's answer is of ordinary size.

    Where an image is unlike all that random weights were set by, a deep network may answer thirty times as strongly,
    and magnify rounding as much.
    """
    with torch.no_grad():
        sizes = torch.stack([main_output(model(image[None])).norm() for image in images])
    return images[sizes <= 3 * sizes.median()][:CHECKED]


def samples_for(macs: int) -> int:
    """How many images a network of so many multiply-accumulates is scored on: fewer where each takes long."""
    return max(FEWEST_SAMPLES, min(MOST_SAMPLES, SAMPLES_MACS // macs // 8 * 8))


def build_subject(name: str, *, source: str | None, threads: int, folder: Path) -> Subject:
    """Build a network by its name, with images and weights that make its outputs informative."""
    architecture = Architecture(kind="torchvision", name=name)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some builders warn of their slow initialisation, which is redone anyway
        model = build(architecture)
    preprocessing = default_preprocessing(architecture, model)
    if side := SMALLER_INPUT.get(name):
        preprocessing = dataclasses.replace(preprocessing, input_shape=(3, side, side), resize=side)
    samples = samples_for(count_macs(model, torch.zeros(1, *preprocessing.input_shape)))
    found = load_data(source, preprocessing=preprocessing, samples=samples, eval_samples=CHECKED_AMONG)
    calibration, held_out = (
        torch.stack([part[index][0] for index in range(count)])
        for part, count in ((found.calibration, samples), (found.evaluation, CHECKED_AMONG))
    )
    make_informative(model, calibration[:ESTIMATED_ON])
    return Subject(
        name=name,
        model=model,
        preprocessing=preprocessing,
        calibration=in_batches(calibration, 8),
        estimation=calibration[:ESTIMATED_ON],
        candidates=held_out,
        held_out=ordinary(model, held_out),
        threads=threads,
        folder=folder,
    )
