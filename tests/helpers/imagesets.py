"""What the tests of the data modules share: preparations, folders of noise, looking into datasets."""

import struct
import zlib

import numpy as np
import torch
from PIL import Image

from topocompress.types import Preprocessing

GREY = Preprocessing(input_shape=(1, 16, 16), mean=(0.3,), std=(0.3,))
COLOUR = Preprocessing(input_shape=(3, 16, 16), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def stacked(dataset):
    return torch.stack([dataset[index][0] for index in range(len(dataset))])


def numbers(part) -> set[int]:
    return set(part.indices.tolist())


def write_images(folder, count, *, seed=0, suffix=".png", size=(20, 24)):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03d}{suffix}")
    return folder


def write_png16(path, pixels):
    """(height, width, channels) uint16 as a PNG of 16 bits, which Pillow writes for one channel only."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (struct.pack(">I", len(data)) + kind + data + _crc(kind + data) for kind, data in parts)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def _crc(data):
    return struct.pack(">I", zlib.crc32(data))


def write_tiff(path, pixels, *, stated=None, photometric=None):
    """(height, width) or (height, width, 3) numbers of any kind as an uncompressed TIFF.

    ``stated`` is its tag MaxSampleValue; ``photometric`` 0 says that white is zero.
    """
    height, width = pixels.shape[:2]
    samples = 1 if pixels.ndim == 2 else pixels.shape[2]
    if photometric is None:
        photometric = 1 if samples == 1 else 2
    data = np.ascontiguousarray(pixels).tobytes()
    tags = {
        256: [width], 257: [height], 258: [pixels.itemsize * 8] * samples, 259: [1], 262: [photometric],
        273: [0], 277: [samples], 278: [height], 279: [len(data)],
        **({} if stated is None else {281: [stated] * samples}),
        339: [{"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]] * samples,
    }  # fmt: skip
    start = 8 + 2 + 12 * len(tags) + 4
    extra = b"".join(struct.pack(f"<{len(v)}H", *v) for v in tags.values() if len(v) > 2)
    tags[273], place, entries = [start + len(extra)], start, b""
    for number, values in tags.items():
        kind, form = (4, "I") if len(values) == 1 else (3, "H")  # one number as a long, several as shorts
        packed = struct.pack(f"<{len(values)}{form}", *values)
        if len(packed) > 4:
            packed, place = struct.pack("<I", place), place + len(packed)
        entries += struct.pack("<HHI", number, kind, len(values)) + packed.ljust(4, b"\0")
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0\0\0\0" + extra + data)
