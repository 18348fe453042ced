"""What the tests of the data modules share: preparations, folders of noise, looking into datasets."""

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
