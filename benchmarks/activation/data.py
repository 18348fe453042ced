"""The images of the study: Fashion-MNIST and CIFAR-10, all ten classes or two of them, at full size."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

SETS = {
    "Fashion-MNIST, 10": ("fashion", tuple(range(10))),
    "CIFAR-10": ("cifar", tuple(range(10))),
    "CIFAR-10, cat or dog": ("cifar", (3, 5)),
    "Fashion-MNIST, T-shirt or shirt": ("fashion", (0, 6)),
}
PARTS = ("train", "test")
Raw = dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]


@dataclass(frozen=True, kw_only=True)
class Images:
    """Normalised images and their labels counted from 0, in random order.

    Attributes:
        training: (images, C, H, W) float32, channels last in memory, and (images,) int64.
        test: The same of the images that nobody learns from.
        classes: How many.
    """

    training: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    classes: int


def fashion(folder: Path) -> Raw:
    """Fashion-MNIST from its four gzipped files: part → (images, 1, 28, 28) and labels."""

    def read(name: str, skip: int) -> NDArray[np.uint8]:
        with gzip.open(folder / name) as stream:
            return np.frombuffer(stream.read(), np.uint8, offset=skip)

    return {
        part: (
            read(f"{prefix}-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28),
            read(f"{prefix}-labels-idx1-ubyte.gz", 8).astype(np.int64),
        )
        for part, prefix in zip(PARTS, ("train", "t10k"), strict=True)
    }


def cifar(source: Path) -> Raw:
    """CIFAR-10 as image files in class folders under train/ and test/, unpacked or in one tar archive."""
    files = sorted(_archived(source) if source.is_file() else _unpacked(source))
    names = sorted({label for _, label, _, _ in files})

    def pixels(entry: tuple[str, str, str, bytes]) -> NDArray[np.uint8]:
        with Image.open(io.BytesIO(entry[3])) as image:
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)

    found = {}
    with ThreadPoolExecutor() as pool:
        for part in PARTS:
            mine = [entry for entry in files if entry[0] == part]
            labels = np.array([names.index(label) for _, label, _, _ in mine])
            found[part] = (np.stack(list(pool.map(pixels, mine, chunksize=500))), labels)
    return found


def _unpacked(folder: Path) -> Iterator[tuple[str, str, str, bytes]]:
    for file in folder.glob("*/*/*.*"):
        yield file.parts[-3], file.parts[-2], file.name, file.read_bytes()


def _archived(file: Path) -> Iterator[tuple[str, str, str, bytes]]:
    with tarfile.open(file) as archive:
        for member in archive:
            if member.isfile() and (stream := archive.extractfile(member)) is not None:
                part, label, name = PurePosixPath(member.name).parts[-3:]
                yield part, label, name, stream.read()


def keep(kind: str, source: Path, folder: Path) -> None:
    """Read the images of a kind, ``fashion`` or ``cifar``, into a folder, for all processes."""
    for part, (pixels, labels) in {"fashion": fashion, "cifar": cifar}[kind](source).items():
        np.save(folder / f"{kind}-{part}-pixels.npy", pixels)
        np.save(folder / f"{kind}-{part}-labels.npy", labels)


def kept(kind: str, folder: Path) -> Raw:
    """What :func:`keep` has read."""
    return {
        part: (
            np.load(folder / f"{kind}-{part}-pixels.npy", mmap_mode="r"),
            np.load(folder / f"{kind}-{part}-labels.npy"),
        )
        for part in PARTS
    }


def chosen(raw: Raw, classes: Sequence[int], device: torch.device) -> Images:
    """Some classes of a set, every channel with mean 0 and standard deviation 1 over the training images."""
    made = []
    for part in PARTS:
        pixels, labels = raw[part]
        kept = np.flatnonzero(np.isin(labels, classes))
        order = kept[np.random.default_rng(0).permutation(len(kept))]
        numbers = torch.from_numpy(np.searchsorted(np.array(classes), labels[order])).to(device)
        made.append((_channels_last(pixels[order], device), numbers))
    values = made[0][0]
    mean, std = values.mean((0, 2, 3), keepdim=True), values.std((0, 2, 3), keepdim=True)
    for images, _ in made:
        images.sub_(mean).div_(std)
    return Images(training=made[0], test=made[1], classes=len(classes))


def _channels_last(pixels: NDArray[Any], device: torch.device) -> Tensor:
    stored = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
    return (torch.from_numpy(stored).to(device).float() / 255).permute(0, 3, 1, 2)
