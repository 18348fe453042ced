"""How an image becomes a model input: what fits an architecture, and what the user sets instead."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from topocompress.errors import ModelError
from topocompress.models.architectures import published_weights, spelled
from topocompress.models.digits import DigitsNet
from topocompress.models.factories import attribute_of
from topocompress.models.timm import timm_preprocessing
from topocompress.network.detectors import is_detector
from topocompress.network.inputs import called, numbers_of, parts_taken
from topocompress.network.layers import CONVOLUTIONS
from topocompress.runtime.borders import border
from topocompress.types import Architecture, InputPart, PixelRange, Preprocessing

_IMAGENET = Preprocessing(input_shape=(3, 224, 224), resize=256)
_DIGITS = Preprocessing(input_shape=DigitsNet.input_shape, mean=(0.3053,), std=(0.3189,))


def published_preprocessing(member: Any) -> Preprocessing:
    """The preset transforms that belong to published weights; reading them needs no download."""
    preset = member.transforms()
    cropped = getattr(preset, "crop_size", preset.resize_size)  # for segmentation whole images are only resized
    side = int(cropped[0])
    return Preprocessing(
        input_shape=(3, side, side),
        resize=int(preset.resize_size[0]),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=preset.interpolation.value,
    )


def default_preprocessing(architecture: Architecture, module: nn.Module) -> Preprocessing:
    """What fits without being told: that of the first published weights, or ``input_shape`` of the module or factory.

    Raises:
        ModelError: There is an ``input_shape`` that is none.
    """
    if architecture.kind == "builtin":
        return _DIGITS
    if architecture.kind == "timm":
        found, channels = timm_preprocessing(spelled(architecture)), int(architecture.options.get("in_channels", 3))
        return found if channels == found.input_shape[0] else _for_channels(found, channels)
    if architecture.kind == "torchvision" and is_detector(module):  # it resizes and normalises by itself
        side = int(module.get_submodule("transform").min_size[-1])  # type: ignore[index]  # a tuple of sizes
        return Preprocessing(input_shape=(3, side, side), mean=(0.0,) * 3, std=(1.0,) * 3, resize=side)
    if architecture.kind == "torchvision":
        found = published_preprocessing(next(iter(published_weights(architecture.name).values())))
        if (channels := int(architecture.options.get("in_channels", 3))) != 3:
            found = _for_channels(found, channels)
        size = int(architecture.options.get("image_size", 0 if not architecture.name.startswith("vit_") else 224))
        if size and size != found.input_shape[1]:
            return replace(found, input_shape=(channels, size, size), resize=None)
        return found
    return (
        several(parts) if (parts := parts_taken(module)) else imagenet_preprocessing(_own_shape(architecture, module))
    )


def _own_shape(architecture: Architecture, module: nn.Module) -> tuple[int, ...]:
    """What the input of a user's own network is said or taken to be."""
    shape = declared_shape(architecture, module)
    if shape is None:
        first = next((layer for layer in module.modules() if isinstance(layer, CONVOLUTIONS)), None)
        if first is not None and len(first.kernel_size) != 2:
            raise ModelError(
                f"{architecture.name} begins with a {type(first).__name__}, and what size its inputs have is not known",
                hint="Give the network or its factory input_shape = (channels, length) or (channels, depth, height, "
                "width).",
            )
        shape = (3 if first is None else first.in_channels, *_IMAGENET.input_shape[1:])
    return shape


def several(parts: tuple[InputPart, ...]) -> Preprocessing:
    """For a network that takes several tensors, which come finished."""
    return Preprocessing(input_shape=(1, numbers_of(parts)), mean=(0.0,), std=(1.0,), inputs=parts)


def is_own(architecture: Architecture) -> bool:
    """Whether a network is the user's own, of which nothing is published."""
    return architecture.kind in ("factory", "object")


def imagenet_preprocessing(shape: tuple[int, ...]) -> Preprocessing:
    """ImageNet's statistics for images of any shape (channels, height, width); none for inputs that are no images."""
    if len(shape) != 3:
        return Preprocessing(input_shape=shape, mean=(0.0,) * shape[0], std=(1.0,) * shape[0])
    default = _IMAGENET if shape == _IMAGENET.input_shape else replace(_IMAGENET, resize=None)
    fitting = default if shape[0] == 3 else _for_channels(default, shape[0])
    return replace(fitting, input_shape=shape)


def declared_shape(architecture: Architecture, module: nn.Module) -> tuple[int, ...] | None:
    """(channels, height, width), or so, that a network of the user's own says it takes: its ``input_shape``.

    Raises:
        ModelError: The attribute is something else.
    """
    shape = getattr(module, "input_shape", None)
    if shape is None and architecture.kind == "factory":
        shape = attribute_of(architecture.name, "input_shape")
    if shape is None:
        return None
    sides = tuple(shape) if isinstance(shape, Sequence) else ()
    if not 2 <= len(sides) <= 4 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ModelError(
            f"{architecture.name}.input_shape is {shape!r}",
            hint="It must be (channels, height, width), whole numbers; (channels, length) or (channels, depth, height, "
            "width) for inputs that are no images.",
        )
    return sides


def assumed(architecture: Architecture, module: nn.Module, used: Preprocessing, *, given: Collection[str]) -> str:
    """What of the preprocessing is assumed and not known, and how to say otherwise; empty if nothing is.

    Args:
        architecture: How the network is built.
        module: The network, with weights that came without a word on how images were prepared.
        used: The preprocessing.
        given: What the user set: ``input_size``, ``mean``, ``std``.
    """
    if architecture.kind == "builtin" or is_detector(module) or not used.is_image:
        return ""  # such networks prepare images themselves, or take none
    own = is_own(architecture)
    parts = []
    channels, height, width = used.input_shape
    if "input_size" not in given and not (own and declared_shape(architecture, module)):
        cut = f", cut from images with a short side of {used.resize}" if used.resize else ""
        parts.append(f"input of {channels} x {height} x {width}{cut} (--input-size)")
    for name, words in (("mean", "mean"), ("std", "standard deviation")):
        if name not in given:
            values = ", ".join(f"{value:g}" for value in getattr(used, name))
            parts.append(f"{words} {values}{' of red, green and blue' if channels == 3 else ''} (--{name})")
    if not parts:
        return ""
    who, like = ("network", "as for ImageNet") if own else ("checkpoint", "as for the published weights")
    return f"the {who} does not say how images are prepared; assumed, {like}: {'; '.join(parts)}"


def _for_channels(base: Preprocessing, channels: int) -> Preprocessing:
    """For grey images and others than colour ones: the statistics averaged over the colours, in every channel."""
    mean, std = (round(sum(values) / len(values), 3) for values in (base.mean, base.std))
    return replace(base, input_shape=(channels, *base.input_shape[1:]), mean=(mean,) * channels, std=(std,) * channels)


def overridden(
    base: Preprocessing,
    *,
    input_size: int | tuple[int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    resize: int | None = None,
    pixel_range: PixelRange | None = None,
) -> Preprocessing:
    """``base`` with the user's own settings; see :func:`topocompress.models.loading.load_model`.

    Raises:
        ModelError: Impossible, or not fitting the number of channels.
    """
    channels, *size = base.input_shape
    if not base.is_image and not (input_size is None and resize is None and mean is None and std is None):
        raise ModelError(
            f"inputs of shape {base.input_shape} are no images that could be resized and normalised",
            hint="Leave out --input-size, --resize, --mean and --std; the data yields finished float tensors.",
        )
    if input_size is not None:
        given = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
        if len(given) != 2 or min(given) < 1:
            raise ModelError(f"input size {input_size} is not possible", hint="Give pixels, such as 224.")
        if list(given) != size:
            base = replace(base, input_shape=(channels, given[0], given[1]), resize=None)
    if resize is not None:
        if resize < max(base.input_shape[1:]):
            raise ModelError(
                f"a short side of {resize} pixels is smaller than the input {base.input_shape[1:]}",
                hint="Raise --resize or lower --input-size.",
            )
        base = replace(base, resize=resize)
    if mean is not None:
        base = replace(base, mean=_per_channel("mean", mean, channels))
    if std is not None:
        base = replace(base, std=_per_channel("std", std, channels))
    if pixel_range is not None:
        base = replace(base, pixel_range=pixel_range)
    return base


def _per_channel(what: str, values: Sequence[float], channels: int) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if len(numbers) == 1:
        numbers *= channels
    if len(numbers) != channels:
        raise ModelError(
            f"{what} {tuple(values)} does not fit a model with {channels} input channels",
            hint=f"Give one number, or {channels}.",
        )
    if not all(math.isfinite(value) for value in numbers) or max(numbers) > 1:
        raise ModelError(
            f"{what} {tuple(values)} is not possible for images of 0..1",
            hint="Units are those of the 0..1 range: divide numbers for 0..255 by 255.",
        )
    return numbers


def check_runs(module: nn.Module, preprocessing: Preprocessing, source: str, *, own: bool) -> int | None:
    """One forward pass, so that a wrong input size or channel count shows here and not in the middle.

    Args:
        module: The network.
        preprocessing: With the input shape to try.
        source: For messages.
        own: It is the user's own, and may carry ``input_shape``.

    Returns:
        The outputs of a classifier, (samples, outputs); ``None`` for other networks.

    Raises:
        ModelError: It does not run.
    """
    shape = preprocessing.input_shape
    hint = "Set the size it was trained with: --input-size PIXELS" + (
        ", or give the network or its factory input_shape = (channels, height, width), (channels, length), ..."
        if own
        else "."
    )
    with (
        border(lambda why: ModelError(f"{source} does not run on an input of shape {shape}: {why}", hint=hint)),
        torch.no_grad(),
        torch.random.fork_rng(devices=[]),
    ):
        output = called(module, torch.zeros(1, *shape))
    return output.shape[1] if isinstance(output, Tensor) and output.ndim == 2 else None
