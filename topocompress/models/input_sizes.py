"""The input size of a network that states none: told by the images or by the network itself, asked for, or assumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from topocompress.models.preprocessing import declared_shape, is_own
from topocompress.network.copying import copied
from topocompress.network.detectors import is_detector
from topocompress.network.inference import device_of
from topocompress.network.inputs import called
from topocompress.types import Architecture, Preprocessing

Size = tuple[int, int]
"""Height and width in pixels."""
Images = Callable[[], Size | None]
"""Gives the one size that all images of the data have; ``None`` where they differ, or nobody knows."""
Ask = Callable[[tuple[int, ...], str], Size | None]
"""Asks the user, given (channels, height, width) of what is assumed else, and why; ``None`` where nobody answers."""

SMALL = 128
"""Pixels a side up to which images that are all of one size are taken to be as the network was trained on them."""
_USUAL = (224, 28, 32, 64, 96, 128, 160, 192, 256, 299)
"""Sides that networks are usually trained at; the first is assumed where nothing speaks for another."""


@dataclass(frozen=True, kw_only=True)
class Settled:
    """An input size that was not stated.

    Attributes:
        size: Height and width.
        why: Why it was taken, as half a sentence; empty where the user has said it.
    """

    size: Size
    why: str


def settled_size(
    architecture: Architecture,
    module: nn.Module,
    used: Preprocessing,
    *,
    images: Images | None = None,
    ask: Ask | None = None,
) -> Settled | None:
    """The size that a network most likely takes which does not state it; ``None`` where it does, or takes no images.

    For the user's own network that of the images, where all are of one small size and it runs on them; else the only
    usual one at which it runs; else what the user says; else the usual one. For a checkpoint of a known architecture
    that of its published weights, unless the images are small ones and the user says otherwise.

    Args:
        architecture: How the network is built.
        module: The network; not changed.
        used: Its preprocessing, with the size that is assumed else.
        images: What size the images have.
        ask: Asks the user.
    """
    if not used.is_image or is_detector(module) or architecture.kind == "builtin":
        return None
    if (own := is_own(architecture)) and declared_shape(architecture, module) is not None:
        return None
    channels, *sides = used.input_shape
    usual = (sides[0], sides[1])
    module = copied(module).eval()  # one may keep something of the first size it sees
    seen = None if images is None else images()
    small = seen if seen is not None and max(seen) <= SMALL and _runs(module, channels, seen) else None
    if not own:
        if small is None or small == usual:
            return None
        why = f"as for the published weights, while the images given are {_by(small)} and are enlarged to it"
    elif small is not None:
        return Settled(size=small, why="the size of the images given")
    else:
        fitting = (side for side in _USUAL if _runs(module, channels, (side, side)))
        first = next(fitting, None)
        if first is not None and next(fitting, None) is None:
            return Settled(size=(first, first), why="the only usual size at which it runs")
        why = "as for ImageNet" + ("; it runs at other sizes too" if first else ", although it runs at no usual size")
    said = None if ask is None else ask(used.input_shape, why)
    return Settled(size=usual, why=why) if said is None else Settled(size=said, why="")


def doubt(settled: Settled, architecture: Architecture, channels: int) -> str:
    """What is taken and why, and how to say otherwise; empty where the user has said it."""
    if not settled.why:
        return ""
    ways, who = "--input-size PIXELS", "checkpoint"
    if is_own(architecture):
        ways += f", or input_shape = ({channels}, HEIGHT, WIDTH) as an attribute of the network or its factory"
        who = "network"
    shape = f"{channels} x {_by(settled.size)}"
    return f"Input size assumed: {shape}, {settled.why}. The {who} does not state it; if that is wrong: {ways}."


def _by(size: Size) -> str:
    return f"{size[0]} x {size[1]}"


def _runs(module: nn.Module, channels: int, size: Size) -> bool:
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            called(module, torch.zeros(1, channels, *size, device=device_of(module)))
    except (Exception, SystemExit):  # noqa: BLE001 - whatever a network of the user's raises, it does not run
        return False
    return True
