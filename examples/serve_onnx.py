"""Classify an image file with what ``topocompress prune`` wrote, without PyTorch and without topocompress.

    python examples/serve_onnx.py run/model.onnx photo.jpg

needs that file alone, which says how images are prepared and what its classes are called, and of packages only
onnxruntime, numpy and Pillow. For the directory ``run/`` it takes ``model.onnx`` in it, or what ``--model`` names.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from PIL import Image

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
GREY = np.array([0.2989, 0.587, 0.114], np.float32)


def as_rgb(image: Image.Image, pixel_range: Sequence[float] | None = None) -> Image.Image:
    """Any colour mode as red, green and blue."""
    if image.mode.startswith("I") or image.mode == "F":  # more than 8 bits; Pillow's own conversion would clip at 255
        low, high = pixel_range or (0, 1 if image.mode == "F" else 65535)  # the numbers for black and white
        levels = ((np.asarray(image, np.float32) - low) / (high - low) * 255).clip(0, 255).round()
        return Image.fromarray(levels.astype(np.uint8)).convert("RGB")
    if image.mode == "P":  # a palette may carry transparency
        image = image.convert("RGBA")
    return image.convert("RGB")


def said_by(session: ort.InferenceSession) -> dict[str, Any]:
    """What topocompress has written into the file: properties called ``topocompress.NAME``, with values in JSON."""
    properties = session.get_modelmeta().custom_metadata_map
    prefix = "topocompress."
    return {key.removeprefix(prefix): json.loads(value) for key, value in properties.items() if key.startswith(prefix)}


def prepare(image: Image.Image, settings: dict[str, Any]) -> np.ndarray:
    """(1, channels, height, width) float32, as the network was fed in training."""
    channels, height, width = settings["input_shape"]
    image = as_rgb(image, settings.get("pixel_range"))
    short, size = settings["resize"], (width, height)
    if short is not None:  # the short side to so many pixels, the long one in proportion
        size = tuple(short if side == min(image.size) else int(short * side / min(image.size)) for side in image.size)
    image = image.resize(size, FILTERS[settings["interpolation"]])
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    pixels = np.asarray(image.crop((left, top, left + width, top + height)), np.float32) / 255
    if channels == 1:
        pixels = (pixels @ GREY)[..., None]
    normalised = (pixels - np.float32(settings["mean"])) / np.float32(settings["std"])
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[None], np.float32)


def classify(file: Path, image: Path) -> list[tuple[str, float]]:
    """(class, probability) of an image file, the most probable first."""
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    settings = said_by(session)
    if "input_shape" not in settings:
        raise SystemExit(f"{file} does not say how images are prepared for it: it is of no run, or takes no images")
    with Image.open(image) as opened:
        inputs = prepare(opened, settings)
    logits = session.run(None, {session.get_inputs()[0].name: inputs})[0]
    if logits.ndim != 2:
        raise SystemExit(f"{file} does not give one score per class, but an output of shape {logits.shape}")
    shares = np.exp(logits[0] - logits[0].max())
    shares /= shares.sum()
    names = settings.get("classes", [])
    order = np.argsort(-shares, kind="stable")
    return [(names[k] if k < len(names) else f"class {k}", float(shares[k])) for k in order]


def found(run: Path, model: Path) -> Path:
    """The ONNX file: ``run`` itself, or ``model`` in that directory or as it stands."""
    for file in (run / model, model) if run.is_dir() else (run,):
        if file.is_file():
            return file
    raise SystemExit(f"there is no file {run / model if run.is_dir() else run}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Classify an image with a pruned network, by ONNX Runtime alone.")
    parser.add_argument("run", type=Path, help="ONNX file that topocompress wrote, or directory")
    parser.add_argument("image", type=Path, help="image file")
    parser.add_argument("--model", type=Path, default="model.onnx", help="which ONNX file in that directory")
    parser.add_argument("--top", type=int, default=5, help="how many classes to print")
    arguments = parser.parse_args()
    for name, share in classify(found(arguments.run, arguments.model), arguments.image)[: arguments.top]:
        print(f"{100 * share:5.1f} %  {name}")


if __name__ == "__main__":
    main()
