"""Images as they are stored: their numbers, whatever their depth, and what else there is to know of them."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from topocompress.data.ranges import DARK, Look, guessed
from topocompress.types import PixelRange

BITS_PER_SAMPLE, PHOTOMETRIC, MAX_SAMPLE, SAMPLE_FORMAT, ORIENTATION = 258, 262, 281, 339, 274
"""Numbers of TIFF tags; orientation is one of Exif, too."""
_PLAIN = ("1", "L", "LA", "RGB", "RGBA")
_ORDERS = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_SWAPPED = {f"{mode};16{order}": f"{mode};16{other}" for mode in ("RGB", "RGBA") for order, other in _ORDERS.items()}
"""Pillow's names for colours of 16 bits, and for the same with the other byte order."""
_DAMAGED_EXIF = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError)


def to_tensor(image: Image.Image, pixel_range: PixelRange | None = None) -> Tensor:
    """An opened image, whatever its colour mode.

    Args:
        image: Not loaded yet, or the low bytes of colours of 16 bits are lost already.
        pixel_range: The numbers for black and white in an image of more than 8 bits; by default as this image alone
            suggests.

    Returns:
        (3, height, width) uint8; (1 or 3, height, width) float32 in 0..1 if there are more than 8 bits a sample.

    Raises:
        ValueError: It holds NaN or Inf, or cannot be converted; or what Pillow raises on damaged files.
    """
    numbers = _deep(image)
    if numbers is None:
        found: Tensor = F.pil_to_tensor(as_rgb(image))
        return found
    low, high = pixel_range or guessed([_described(image, numbers)])
    scaled = ((numbers.astype(np.float64) - low) / (high - low)).clip(0, 1)
    if _tag(image, PHOTOMETRIC) == 0:  # white is zero
        scaled = 1 - scaled
    return torch.from_numpy(scaled.astype(np.float32))


def as_rgb(image: Image.Image) -> Image.Image:
    """An image of 8 bits in red, green and blue; transparency is left out, as torchvision's datasets do."""
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # a palette may carry transparency in a form that only this understands
    return image.convert("RGB")


def look(image: Image.Image) -> Look:
    """Read an opened image to its end and say what it is.

    Raises:
        ValueError: As :func:`to_tensor`.
    """
    wide = _wide(image)
    numbers = _deep(image)
    if numbers is not None:
        return _described(image, numbers)
    transparent = "transparency" in image.info or _see_through(image)
    plain = image if image.mode in _PLAIN else as_rgb(image)
    colour = plain.mode in ("RGB", "RGBA")
    low, high = _extremes(plain.resize((min(plain.width, 64), min(plain.height, 64)), Image.Resampling.NEAREST))
    if high <= DARK:  # else all that matters is that it is not dark
        low, high = _extremes(plain)
    return Look(
        kind="upper bytes" if wide else "bytes",
        low=low,
        high=high,
        colour=colour,
        transparent=transparent,
        pages=_pages(image),
        turned=_turned(image),
    )


def _see_through(image: Image.Image) -> bool:
    """Whether any pixel is transparent; in LAB the letter A is a colour."""
    return "A" in image.getbands() and image.mode != "LAB" and image.getchannel("A").getextrema()[0] != 255


def _extremes(image: Image.Image) -> tuple[float, float]:
    """The lowest and the highest sample of an image of 8 bits, transparency left out."""
    bands: Any = image.getextrema()
    bands = bands if isinstance(bands[0], tuple) else (bands,)
    bands = bands[:-1] if image.mode in ("LA", "RGBA") else bands
    return min(band[0] for band in bands), max(band[1] for band in bands)


def _deep(image: Image.Image) -> NDArray[Any] | None:
    """(1 or 3, height, width) numbers as stored, transparency left out; ``None`` if 8 bits are all there is."""
    numbers = _colours_of_16_bits(image) if _wide(image) else None
    if numbers is None:
        image.load()
        signed, bits = _tag(image, SAMPLE_FORMAT), _tag(image, BITS_PER_SAMPLE)
        if image.mode.startswith("I") or image.mode == "F":
            numbers = np.asarray(image)[None]
            if image.mode == "I" and (signed, bits) == (1, 32):
                numbers = numbers.view(np.uint32)  # which Pillow hands over as signed
        elif image.mode == "L" and (signed, bits) == (2, 8):
            numbers = np.asarray(image)[None].view(np.int8)  # which Pillow hands over as unsigned
        else:
            return None
    if not np.isfinite(numbers).all():
        raise ValueError("it holds NaN or Inf")
    return numbers


def _colours_of_16_bits(image: Image.Image) -> NDArray[Any] | None:
    """(3, height, width) uint16; ``None`` where Pillow cannot be made to show the lower bytes, too.

    Pillow keeps one byte of each sample, the upper one; told that the file has the other byte order, the lower one.
    """
    stream: Any = getattr(image, "fp", None)
    swapped = [_with_other_bytes(tile) for tile in getattr(image, "tile", ())]
    if stream is None or not swapped or None in swapped:
        return None
    place = stream.tell()
    stream.seek(0)
    content = stream.read()
    stream.seek(place)
    with Image.open(io.BytesIO(content)) as again:
        again.tile = swapped
        lower = np.asarray(again)[..., :3].astype(np.uint16)
    numbers: NDArray[Any] = (np.asarray(image)[..., :3].astype(np.uint16) << 8) + lower
    return numbers.transpose(2, 0, 1)


def _with_other_bytes(tile: Any) -> Any:
    """A part of an image that is not loaded yet, to be read with its bytes swapped; ``None`` if it cannot be."""
    codec, extents, offset, args = tile
    raw, *rest = (args,) if isinstance(args, str) else args
    if (other := _SWAPPED.get(raw)) is None:
        return None
    swapped = other if isinstance(args, str) else (other, *rest)
    # a named tuple in newer versions of Pillow
    return tile._replace(args=swapped) if hasattr(tile, "_replace") else (codec, extents, offset, swapped)


def _described(image: Image.Image, numbers: NDArray[Any]) -> Look:
    stated = 65535 if image.format == "PPM" and image.mode == "I" else _tag(image, MAX_SAMPLE)  # Pillow scales PGM
    return Look(
        kind="floats" if numbers.dtype.kind == "f" else "whole numbers",
        low=float(numbers.min()),
        high=float(numbers.max()),
        stated=stated,
        colour=len(numbers) > 1,
        transparent=_see_through(image),
        pages=_pages(image),
        turned=_turned(image),
    )


def _wide(image: Image.Image) -> bool:
    """Whether an image that is not loaded yet has several channels of 16 bits."""
    if image.mode.startswith("I"):
        return False
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _pages(image: Image.Image) -> bool:
    return bool(getattr(image, "is_animated", False))


def _turned(image: Image.Image) -> bool:
    try:
        return image.getexif().get(ORIENTATION, 1) not in (0, 1)
    except _DAMAGED_EXIF:  # the pixels are fine
        return False


def _tag(image: Image.Image, number: int) -> Any:
    """A TIFF tag's first number; ``None`` where there is none."""
    found = getattr(image, "tag_v2", {}).get(number)
    found = found[0] if isinstance(found, tuple) and found else found
    return found if isinstance(found, int | float) else None
