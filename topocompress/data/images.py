"""From an image, however it comes, to a model input."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from topocompress.data.pixels import look, to_tensor
from topocompress.data.ranges import Look
from topocompress.errors import DataError
from topocompress.network.inputs import packed
from topocompress.runtime.borders import border
from topocompress.types import PixelRange, Preprocessing

MOST_PIXELS = 64_000_000
"""Of an image file; as floating-point numbers of three colours they take 0.8 GB."""


def prepare(image: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Resize, crop, scale to 0..1, convert the number of channels, normalise.

    Args:
        image: (channels, height, width), uint8, or floating in 0..1.
        preprocessing: What the model expects.

    Raises:
        DataError: The channels cannot be converted.
    """
    return normalise(sized(image, preprocessing), preprocessing)


def sized(image: Tensor, preprocessing: Preprocessing) -> Tensor:
    """The first steps of :func:`prepare`: resize and crop; whole numbers stay whole.

    Raises:
        DataError: The model takes no images.
    """
    if not preprocessing.is_image:
        raise DataError(
            f"images cannot be made into inputs of shape {preprocessing.input_shape}",
            hint="Use a data factory that returns float tensors of that shape.",
        )
    height, width = preprocessing.input_shape[1:]
    size = [height, width] if preprocessing.resize is None else [preprocessing.resize]
    image = F.resize(image, size, interpolation=InterpolationMode(preprocessing.interpolation), antialias=True)
    if image.is_floating_point():
        image = image.clamp(0, 1)  # bicubic overshoots at edges; whole numbers are clamped already
    cropped: Tensor = F.center_crop(image, [height, width])
    return cropped


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


def read_image(path: Path, pixel_range: PixelRange | None = None) -> Tensor:
    """One image file, whatever its colour mode.

    Args:
        path: The file.
        pixel_range: The numbers for black and white in an image of more than 8 bits; by default as this image alone
            suggests.

    Returns:
        (3, height, width) uint8; (1 or 3, height, width) float32 in 0..1 if there are more than 8 bits a sample.

    Raises:
        DataError: The file cannot be decoded, or holds NaN or Inf.
    """
    hint = "Remove or replace the file."
    with border(lambda why: DataError(f"cannot read the image {path}: {why}", hint=hint)), _opened(path) as image:
        return to_tensor(_bounded(image), pixel_range)


def look_at(image: Path | Image.Image) -> Look | str:
    """What an image is, read to its end, since headers alone do not show a truncated file; or why it is unusable."""
    try:
        if isinstance(image, Image.Image):
            return look(_bounded(image))
        with _opened(image) as opened:
            return look(_bounded(opened))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - Pillow has a reader for each format, which raises what it likes
        return str(error) or type(error).__name__


def size_of(path: Path) -> tuple[int, int] | None:
    """Height and width by the header of a file, without what it holds; ``None`` where it cannot be read."""
    try:
        with _opened(path) as opened:
            return opened.height, opened.width
    except (Exception, SystemExit):  # noqa: BLE001 - as above
        return None


def _opened(path: Path) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # what is too large is refused
        return Image.open(path)


def _bounded(image: Image.Image) -> Image.Image:
    """An image that is not loaded yet, and that fits the memory when it is: a small file may say any size.

    Raises:
        ValueError: It has too many pixels.
    """
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels are more than {MOST_PIXELS / 1e6:.0f} million")
    return image


def finished(image: Any, preprocessing: Preprocessing, where: str) -> Tensor:
    """Turn what a foreign dataset yields into a checked model input.

    Raises:
        DataError: Not an image, another shape or channel count, or NaN or Inf inside.
    """
    if preprocessing.inputs:
        if not isinstance(image, Mapping | tuple | list):
            names = ", ".join(part.name for part in preprocessing.inputs)
            raise DataError(f"{where} is one {type(image).__name__}", hint=f"Yield a tuple or dict of {names}.")
        image = packed(preprocessing.inputs, image, where)
    if isinstance(image, Image.Image):
        with border(lambda why: DataError(f"{where} cannot be read: {why}", hint="Leave it out of the data.")):
            _bounded(image)
            pixels = F.pil_to_tensor(image) if image.mode == "L" else to_tensor(image, preprocessing.pixel_range)
        return prepare(pixels, preprocessing)
    if not isinstance(image, Tensor):
        raise DataError(f"{where} is a {type(image).__name__}", hint="Yield a tensor or a PIL image, with its label.")
    if image.dtype == torch.uint8 and image.ndim in {2, 3}:
        if (
            image.ndim == 3
            and image.shape[0] not in (1, 3, preprocessing.input_shape[0])
            and image.shape[2] in (1, 3, 4)
        ):
            raise DataError(
                f"{where} has the shape {tuple(image.shape)}: its last axis looks like the channels",
                hint="Yield uint8 (channels, height, width), such as image.permute(2, 0, 1); or PIL images.",
            )
        return prepare(image if image.ndim == 3 else image[None], preprocessing)
    if not image.is_floating_point():
        raise DataError(
            f"{where} holds {image.dtype} of shape {tuple(image.shape)}, and which numbers mean black and white is "
            "not known",
            hint="Yield uint8 (channels, height, width) or PIL images, which are prepared, or finished float tensors: "
            "scaled to 0..1, normalised, of the model's input shape.",
        )
    expected = preprocessing.input_shape
    if tuple(image.shape) != expected:
        what = "channels" if image.ndim == 3 and image.shape[0] != expected[0] else "shape"
        raise DataError(
            f"{where} has the wrong {what}: {image.dtype} {tuple(image.shape)}, and the model takes {expected}",
            hint="Yield float tensors of the model's input shape, or raw images (uint8 or PIL), which are prepared.",
        )
    if not bool(torch.isfinite(image).all()):
        raise DataError(f"{where} holds NaN or Inf", hint="Clean the data; check for a division by a zero range.")
    return image.detach().float()
