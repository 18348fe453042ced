"""The size of a source's images, looked up before a network is there that they could be prepared for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from topocompress.data.checks import written
from topocompress.data.images import size_of
from topocompress.data.looking import FEW, evenly
from topocompress.data.walking import images_in

_NAMED = {"digits": (8, 8), "fashion-mnist": (28, 28), "cifar10": (32, 32)}
_OPENED = 200
"""Files whose headers are read."""


def common_size(source: Dataset[Any] | str | Path | None) -> tuple[int, int] | None:
    """Height and width of all images of a source, of which some are looked at; ``None`` if they differ.

    Also where that is not known before they are loaded, as of a factory. What cannot be read is left to those who load
    it: nothing is raised for it.

    Args:
        source: What the user gave, see :func:`topocompress.data.load_data`.
    """
    if source is None:
        return None
    if isinstance(source, Dataset):
        try:
            items = [source[index] for index in evenly(len(source), FEW)]  # type: ignore[arg-type]  # map-style
        except (Exception, SystemExit):  # noqa: BLE001 - it is the user's, and loading it says what is wrong
            return None
        return _same(map(_size, items))
    name, _, rest = written(source).partition(":")
    if name.lower() == "imagefolder" and rest:
        try:
            files = images_in(Path(rest).expanduser(), deep=True)
        except OSError:
            return None
        return _same(size_of(files[index]) for index in evenly(len(files), _OPENED))
    return _NAMED.get(name.lower())


def _size(item: Any) -> tuple[int, int] | None:
    image = item[0] if isinstance(item, tuple | list) else item
    if isinstance(image, Image.Image):
        return image.height, image.width
    return (image.shape[1], image.shape[2]) if isinstance(image, Tensor) and image.ndim == 3 else None


def _same(sizes: Iterable[tuple[int, int] | None]) -> tuple[int, int] | None:
    found = set(sizes)
    return found.pop() if len(found) == 1 else None
