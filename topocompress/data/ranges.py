"""What the numbers in images stand for: one range for a whole source, from a look at each of its images.

Ordinary images have 8 bits a sample and need none of this. In the others (16 bits, whole numbers of 32, floats) the
numbers that mean black and white are rarely written down, so they are decided from all images of a source together;
decided image by image, differences in brightness would be lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from topocompress.errors import DataError
from topocompress.types import PixelRange

TOPS = (1, 255, 1023, 4095, 16383, 65535)
"""White where it is guessed: floats of 0..1, and whole numbers of 8, 10, 12, 14 and 16 bits."""
DARK = 63
"""Where no pixel of 8 bits is above this, of 255, something is likely wrong: six bits would have done."""


Kind = Literal["bytes", "upper bytes", "whole numbers", "floats"]
"""8 bits; colours of 16 bits of which only the upper 8 can be read; more bits; floating numbers."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one image is, without its pixels.

    Attributes:
        kind: What its numbers are.
        low: The lowest sample; transparency does not count. Of 8 bits only roughly, unless the image is dark.
        high: The highest, likewise.
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
    how = "as given or kept in the run directory" if given is not None else "another range: --pixel-range LOW,HIGH"
    cut = ", what lies beyond is cut off" if seen[0] < low or seen[1] > high else ""
    words.append(
        f"{count} have more than 8 bits a sample, values {seen[0]:.4g}..{seen[1]:.4g} seen: "
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
