"""Seeded crops of photographs, as a folder of images without labels.

    python -m benchmarks.common.photographs PICTURE... --out photos [--crops 12]

For trying a network on more images than there are pictures: squares of 0.35 to 1 of a picture's shorter side, anywhere
in it, scaled to 256 pixels.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from PIL import Image

SIDE, SMALLEST = 256, 0.35


def crop(picture: Path, count: int, out: Path) -> None:
    """Write ``count`` crops of a picture; which ones follows from its name."""
    draw = random.Random(picture.stem)
    with Image.open(picture) as opened:
        image = opened.convert("RGB")
    for number in range(count):
        side = min(image.size) * draw.uniform(SMALLEST, 1)
        left, top = (draw.uniform(0, length - side) for length in image.size)
        square = image.crop((int(left), int(top), int(left + side), int(top + side)))
        name = f"{'-'.join(picture.with_suffix('').parts[-4:])}-{number}.jpg"
        square.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(out / name, quality=92)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--crops", type=int, default=12)
    args = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = None  # these are the user's own
    args.out.mkdir(parents=True, exist_ok=True)
    for picture in args.pictures:
        crop(picture, args.crops, args.out)
    print(f"{len(args.pictures) * args.crops} crops in {args.out}")


if __name__ == "__main__":
    main()
