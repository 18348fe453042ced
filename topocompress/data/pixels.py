"""What the numbers in images stand for: as they are stored, looked at, and one range for a whole source.

Ordinary images have 8 bits a sample and need none of this. In the others (16 bits, whole numbers of 32, floats) the
numbers that mean black and white are rarely written down, so they are decided from all images of a source together;
decided image by image, differences in brightness would be lost.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from topocompress.errors import DataError
from topocompress.types import PixelRange

BITS_PER_SAMPLE, PHOTOMETRIC, MAX_SAMPLE, SAMPLE_FORMAT, ORIENTATION = 258, 262, 281, 339, 274
"""Numbers of TIFF tags; orientation is one of Exif, too."""
TOPS = (1, 255, 1023, 4095, 16383, 65535)
"""White where it is guessed: floats of 0..1, and whole numbers of 8, 10, 12, 14 and 16 bits."""
DARK = 63
"""Where no pixel of 8 bits is above this, of 255, something is likely wrong: six bits would have done."""

_PLAIN = ("1", "L", "LA", "RGB", "RGBA")
_ORDERS = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_SWAPPED = {f"{mode};16{order}": f"{mode};16{other}" for mode in ("RGB", "RGBA") for order, other in _ORDERS.items()}
"""Pillow's names for colours of 16 bits, and for the same with the other byte order."""
_DAMAGED_EXIF = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError)

Kind = Literal["bytes", "upper bytes", "whole numbers", "floats"]
"""8 bits; colours of 16 bits of which only the upper 8 can be read; more bits; floating numbers."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one image is, without its pixels.

    Attributes:
        kind: What its numbers are.
        low: The lowest sample; transparency does not count.
        high: The highest.
        stated: The highest sample there can be, where the file says so.
        colour: More than shades of grey can be stored in it.
        transparent: Some pixels are not opaque.
        pages: It holds more than one image.
        turned: Its Exif data ask to show it turned or mirrored.
    """

    kind: Kind
    low: float
    high: float
    stated: float | None = None
    colour: bool = True
    transparent: bool = False
    pages: bool = False
    turned: bool = False


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
    transparent = "transparency" in image.info
    plain = image if image.mode in _PLAIN else as_rgb(image)
    bands: Any = plain.getextrema()
    bands = bands if isinstance(bands[0], tuple) else (bands,)
    if plain.mode in ("LA", "RGBA"):
        transparent = transparent or bands[-1][0] < 255
        bands = bands[:-1]
    return Look(
        kind="upper bytes" if wide else "bytes",
        low=min(band[0] for band in bands),
        high=max(band[1] for band in bands),
        colour=len(bands) > 1,
        transparent=transparent,
        pages=_pages(image),
        turned=_turned(image),
    )


def guessed(looks: Sequence[Look]) -> PixelRange:
    """The numbers for black and white in images of more than 8 bits, from what is stated or was seen in all of them."""
    low, high = min(entry.low for entry in looks), max(entry.high for entry in looks)
    stated = {entry.stated for entry in looks}
    if len(stated) == 1 and (top := stated.pop()) is not None and low >= 0 and high <= top:
        return 0.0, float(top)
    if low < 0 and looks[0].kind == "floats" and low >= -1.01 and high <= 1.01 and low < -high / 100:
        return -1.0, 1.0
    if low < -abs(high) / 100 or low > high / 2:  # signed, or far from zero, as temperatures in Kelvin are
        return float(low), float(high) if high > low else float(low) + 1.0
    top = next((top for top in TOPS if high <= 1.01 * top), high)  # a little more comes of resampling
    return 0.0, float(top if high >= top / 8 or high <= 0 else high)


def decided(looks: Sequence[Look], given: PixelRange | None, where: str) -> tuple[PixelRange | None, str]:
    """One range for all images of a source.

    Args:
        looks: At its images.
        given: What the user says; otherwise it is guessed.
        where: The source, for messages.

    Returns:
        The numbers for black and white, ``None`` if there is no image of more than 8 bits; and what was taken for
        what, in words.

    Raises:
        DataError: Whole numbers and floats are mixed, or the numbers lie in bits that cannot be read.
    """
    deep = [entry for entry in looks if entry.kind in ("whole numbers", "floats")]
    upper = [entry for entry in looks if entry.kind == "upper bytes"]
    if upper and max(entry.high for entry in upper) <= DARK:
        raise DataError(
            f"{where} holds images of several channels of 16 bits that use the lower bits (the upper 8 reach "
            f"{max(entry.high for entry in upper):g} of 255), and Pillow can read only the upper 8",
            hint="Save them with 8 bits a sample, or without transparency.",
        )
    words = [f"of {len(upper)} images with 16 bits a sample the upper 8 are read"] if upper else []
    if not deep:
        top = max((entry.high for entry in looks), default=255)
        if top <= DARK:
            words.append(
                f"no pixel of the images is above {top:g} of 255: to the network they are nearly black; save them "
                "with 255 for white"
            )
        if given is not None:
            words.append(f"the pixel range {given[0]:g}, {given[1]:g} does not apply to images of 8 bits")
        return given, "; ".join(words)
    if len({entry.kind for entry in deep}) > 1:
        raise DataError(
            f"{where} mixes images of whole numbers with more than 8 bits and images of floats",
            hint="Save all of them with the same kind of numbers: one range must serve all.",
        )
    low, high = given or guessed(deep)
    seen = min(entry.low for entry in deep), max(entry.high for entry in deep)
    count = "all images" if len(deep) == len(looks) else f"{len(deep)} of {len(looks)} images"
    how = "as given" if given is not None else "another range: --pixel-range LOW,HIGH"
    cut = ", what lies beyond is cut off" if seen[0] < low or seen[1] > high else ""
    words.append(
        f"{count} have more than 8 bits a sample, values {seen[0]:.3g}..{seen[1]:.4g} seen: "
        f"{low:g} is taken for black and {high:g} for white ({how}{cut})"
    )
    return (low, high), "; ".join(words)


def oddities(looks: Iterable[Look], channels: int) -> list[str]:
    """What is left out of images, in words; empty for ordinary ones.

    Args:
        looks: At the images.
        channels: Input channels of the model.
    """
    found = list(looks)
    kinds = (
        ("transparent", "have transparent pixels, which are taken in the colour that is stored"),
        ("pages", "hold several pages or frames, of which the first is taken"),
        ("turned", "ask in their Exif data to be turned, and are taken as stored, as by torchvision's ImageFolder"),
        ("colour", "are in colour, and turned into grey for a model of one channel" if channels == 1 else ""),
    )
    counts = [(sum(getattr(entry, name) for entry in found), words) for name, words in kinds if words]
    return [f"{count} of {len(found)} images {words}" for count, words in counts if count]


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
        transparent="A" in image.mode and image.getchannel("A").getextrema()[0] != 255,
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
