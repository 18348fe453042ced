"""From an image, however it comes, to a model input."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from topocompress.errors import DataError
from topocompress.types import Preprocessing

_UNREADABLE = (
    OSError, EOFError, SyntaxError, ValueError, TypeError, IndexError, OverflowError, struct.error, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow raises on damaged files."""


def prepare(image: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Resize, crop, scale to 0..1, convert the number of channels, normalise.

    Args:
        image: (channels, height, width), uint8, or floating in 0..1.
        preprocessing: What the model expects.

    Raises:
        DataError: The channels cannot be converted.
    """
    height, width = preprocessing.input_shape[1:]
    size = [height, width] if preprocessing.resize is None else [preprocessing.resize]
    image = F.resize(image, size, interpolation=InterpolationMode(preprocessing.interpolation), antialias=True)
    if image.is_floating_point():
        image = image.clamp(0, 1)  # bicubic overshoots at edges; whole numbers are clamped already
    return normalise(F.center_crop(image, [height, width]), preprocessing)


def normalise(image: Tensor, preprocessing: Preprocessing) -> Tensor:
    """The last steps of :func:`prepare`, for an image that has its size."""
    channels = preprocessing.input_shape[0]
    image = F.to_dtype(image, torch.float32, scale=True)
    if image.shape[0] == 3 and channels == 1:
        image = F.rgb_to_grayscale(image, num_output_channels=1)
    elif image.shape[0] == 1 and channels == 3:
        image = image.expand(3, -1, -1)
    elif image.shape[0] != channels:
        raise DataError(
            f"images with {image.shape[0]} channels do not fit a model with {channels}",
            hint="Use a data factory that returns float tensors of the model's own input shape.",
        )
    normalised: Tensor = F.normalize(image, list(preprocessing.mean), list(preprocessing.std))
    return normalised


def read_image(path: Path) -> Tensor:
    """One image file as (3, height, width) uint8, whatever its colour mode.

    Raises:
        DataError: The file cannot be decoded.
    """
    try:
        with Image.open(path) as image:
            pixels: Tensor = F.pil_to_tensor(_as_rgb(image))
    except _UNREADABLE as error:
        raise DataError(f"cannot read the image {path}: {error}", hint="Remove or replace the file.") from error
    return pixels


def decodes(path: Path) -> bool:
    """Whether an image file can be read to its end; headers alone do not show a truncated file."""
    try:
        with Image.open(path) as image:
            image.load()
    except _UNREADABLE:
        return False
    return True


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion would clip at 255
        return Image.fromarray((np.asarray(image) // 256).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "P":
        image = image.convert("RGBA")  # a palette may carry transparency in a form that only this understands
    return image.convert("RGB")


def finished(image: Any, preprocessing: Preprocessing, where: str) -> Tensor:
    """Turn what a foreign dataset yields into a checked model input.

    Raises:
        DataError: Not an image, another shape or channel count, or NaN or Inf inside.
    """
    if isinstance(image, Image.Image):
        return prepare(F.pil_to_tensor(image if image.mode == "L" else _as_rgb(image)), preprocessing)
    if not isinstance(image, Tensor):
        raise DataError(f"{where} is a {type(image).__name__}", hint="Yield a tensor or a PIL image, with its label.")
    if image.dtype == torch.uint8 and image.ndim in {2, 3}:
        return prepare(image if image.ndim == 3 else image[None], preprocessing)
    expected = preprocessing.input_shape
    if tuple(image.shape) != expected or not image.is_floating_point():
        what = "channels" if image.ndim == 3 and image.shape[0] != expected[0] else "shape"
        raise DataError(
            f"{where} has the wrong {what}: {image.dtype} {tuple(image.shape)}, and the model takes {expected}",
            hint="Yield float tensors of the model's input shape, or raw images (uint8 or PIL), which are prepared.",
        )
    if not bool(torch.isfinite(image).all()):
        raise DataError(f"{where} holds NaN or Inf", hint="Clean the data; check for a division by a zero range.")
    return image.detach().float()
