"""How a network is built, and how an image becomes its input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from topocompress.errors import ModelError

Interpolation = Literal["bilinear", "bicubic"]
"""How images are resized."""
DType = Literal["float32", "float64", "float16", "int64", "int32", "uint8", "bool"]
"""Kinds of numbers that one of several inputs may have."""
PixelRange = tuple[float, float]
"""The numbers for black and white in an image of more than 8 bits."""
Augmentation = Literal["none", "shift", "natural"]
"""What may be done to an image without changing what it shows: nothing, shifting it, mirroring it as well."""


MOST_CHANNELS, MOST_PIXELS = 1024, 4096
"""Of an input: its channels, and the pixels of a side; both sides together have a quarter of the square."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """How to build a network again without unpickling anything.

    Attributes:
        kind: ``torchvision`` or ``timm`` (``name`` is a key of that package's registry), ``builtin`` (shipped with
            topocompress), ``factory`` (``name`` is ``pkg.module:callable``) or ``object`` (the caller's own module,
            which only the caller can build again).
        name: Name within that kind.
        options: Keyword arguments for the builder, for example ``{"num_classes": 10}``.
    """

    kind: Literal["torchvision", "timm", "builtin", "factory", "object"]
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class InputPart:
    """One of several tensors that a network takes.

    Attributes:
        name: What it is called: a key, or an argument of ``forward``.
        shape: Of one sample.
        dtype: As torch calls it, such as ``float32``.
        call: Whether ``forward`` takes the tensors one after the other, by name, or all in one dict.
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType
    call: Literal["positional", "keyword", "dict"]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image becomes a model input: resize the short side, centre-crop, scale to 0..1, normalise.

    Attributes:
        input_shape: (channels, height, width) of one model input; (channels, length) or (channels, depth, height,
            width) where inputs are no images, and come finished.
        resize: Length of the short side in pixels before the crop; ``None`` resizes to the input size directly.
        mean: Per-channel mean, in units of the 0..1 range.
        std: Per-channel standard deviation, same units.
        interpolation: How the resizing computes pixels in between.
        pixel_range: The numbers that become 0 and 1 where an image has more than 8 bits a sample (0 and 255 where it
            has 8); ``None`` where that is not known, and is decided from the images.
        inputs: The tensors that a network takes where it takes several; ``input_shape`` is then (1, numbers in all).
    """

    input_shape: tuple[int, ...]
    resize: int | None = None
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: Interpolation = "bilinear"
    pixel_range: PixelRange | None = field(default=None, repr=False)  # fingerprints are made of the rest
    inputs: tuple[InputPart, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not 2 <= len(self.input_shape) <= 4:
            raise ModelError(
                f"input shape {self.input_shape} is not possible",
                hint="Give (channels, height, width), or (channels, length), or (channels, depth, height, width).",
            )
        channels, *sides = self.input_shape
        most = MOST_PIXELS**2 // 4 if len(sides) == 1 else MOST_PIXELS  # a signal is as long as an image is large
        if not (1 <= channels <= MOST_CHANNELS and all(1 <= side <= most for side in sides)):
            raise ModelError(
                f"an input of {' x '.join(map(str, self.input_shape))} is not possible",
                hint=f"At most {MOST_CHANNELS} channels and {most} pixels a side.",
            )
        if math.prod(sides) > MOST_PIXELS**2 // 4:
            raise ModelError(
                f"an input of {' x '.join(map(str, sides))} pixels is too large",
                hint=f"At most {MOST_PIXELS**2 // 4 / 1e6:.1f} million pixels in all.",
            )
        if self.resize is not None and not 1 <= self.resize <= 2 * MOST_PIXELS:
            raise ModelError(
                f"a short side of {self.resize} pixels is not possible", hint=f"From 1 to {2 * MOST_PIXELS}."
            )
        if not all(map(math.isfinite, (*self.mean, *self.std))) or not all(value > 0 for value in self.std):
            raise ModelError(
                f"mean {self.mean} and std {self.std} must be finite, and std must be above 0",
                hint="Units are those of the 0..1 range.",
            )
        if self.interpolation not in get_args(Interpolation):
            raise ModelError(f"interpolation {self.interpolation!r} is none of {', '.join(get_args(Interpolation))}")
        if self.pixel_range is not None:
            low, high = self.pixel_range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ModelError(
                    f"pixel range {low:g}, {high:g} is not possible",
                    hint="Give the numbers for black and for white, the lower one first, such as 0,4095.",
                )

    @property
    def is_image(self) -> bool:
        """Whether an input is an image, which can be resized and normalised."""
        return len(self.input_shape) == 3
