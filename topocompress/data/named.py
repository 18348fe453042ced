"""Sources of data that have a name: the sets that are known, and folders of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from topocompress.data import sources
from topocompress.types import Preprocessing


def named(
    source: str,
    preprocessing: Preprocessing,
    *,
    known: Sequence[str] = (),
    download: bool = False,
    validation: Path | None = None,
) -> sources.Pool | None:
    """All samples of a source by its name; ``None`` if it has none.

    Args:
        source: As :func:`topocompress.data.checks.written` gives it.
        preprocessing: What the model expects.
        known: Names of the classes, where they are known.
        download: Let torchvision download the set.
        validation: Another folder of images, whose all are held out.

    Raises:
        DataError: It is missing or damaged.
    """
    name, _, rest = source.partition(":")
    where = Path(rest).expanduser()
    match name.lower(), bool(rest):
        case "digits", False if source == "digits":
            return sources.digits(preprocessing)
        case "fashion-mnist", True:
            return sources.fashion_mnist(where, preprocessing, download=download)
        case "cifar10", True:
            return sources.cifar10(where, preprocessing, download=download)
        case "imagefolder", True:
            return sources.image_folder(where, preprocessing, known, validation)
    return None
