"""Names of a network's classes in the order of its outputs: from a file of the user's, or beside the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from topocompress.errors import DataError
from topocompress.runtime.json_files import read_bytes

_KEYS = (
    *("classes", "class_names", "classnames", "categories", "label_names", "names"),
    *("class_to_idx", "idx_to_class", "label2id", "id2label"),
)
_INSIDE = ("meta", "dataset_meta", "hyper_parameters", "hparams", "config")
_MOST = 16 * 2**20
"""Bytes of a file of names."""
_FORMS = "One name a line in the order of the outputs; or JSON: a list of names, {name: number} or {number: name}."


def read_class_names(path: Path) -> tuple[str, ...]:
    """Names from a text file, one a line, or a JSON file: a list, ``{name: number}`` or ``{number: name}``.

    Raises:
        DataError: Missing, empty, or no such list.
    """
    try:
        text = read_bytes(path, most=_MOST).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        reason = "it is no text in UTF-8" if isinstance(error, UnicodeDecodeError) else reason
        raise DataError(f"cannot read the class names {path}: {reason}", hint=_FORMS) from error
    if text.lstrip()[:1] in ("[", "{"):
        try:
            names = ordered_names(json.loads(text, object_pairs_hook=_once))
        except ValueError as error:
            raise DataError(f"{path} is not valid JSON: {error}", hint=_FORMS) from error
        if names is None:
            raise DataError(f"{path} does not name every output, from 0 on, once", hint=_FORMS)
        return names
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if not any(lines):
        raise DataError(f"{path} is empty", hint=_FORMS)
    if "" in lines:
        raise DataError(f"{path}: line {lines.index('') + 1} is empty", hint=f"Every output needs a name. {_FORMS}")
    return tuple(lines)


def given_classes(given: str | Path | Sequence[str] | None, words: Sequence[str]) -> str | tuple[str, ...] | None:
    """What a user says of the outputs: one of some words, or names, read where a file is given; ``None`` if nothing.

    Raises:
        DataError: The file is not usable, or not all are names.
    """
    if given is None or (isinstance(given, str) and given in words):
        return given
    if isinstance(given, str | Path):
        path = Path(given).expanduser()
        if not path.exists():
            raise DataError(
                f"--classes {given}: there is no such file", hint=f"A file, or one of {', '.join(words)}. {_FORMS}"
            )
        return read_class_names(path)
    names = tuple(given)
    if not all(isinstance(name, str) and name for name in names):
        raise DataError("class names must be words", hint="A sequence of one name per output, in their order.")
    return names or None


def names_beside(contents: Any, outputs: int) -> tuple[str, ...]:
    """Names that a checkpoint carries beside its weights.

    Args:
        contents: Those of a :class:`~topocompress.models.contents.Checkpoint`.
        outputs: How many names there must be; others are of something else.

    Returns:
        (outputs,), or nothing.
    """
    if not isinstance(contents, Mapping):
        return ()
    for place in (contents, *(contents.get(key) for key in _INSIDE)):
        if isinstance(place, Mapping):
            for key, value in place.items():
                names = ordered_names(value) if str(key).lower() in _KEYS else None
                if names is not None and len(names) == outputs:
                    return names
    return ()


def imagenet_classes() -> tuple[str, ...]:
    """ImageNet-1k's own names of its classes (``n01440764``, ...) in the usual order of outputs, from timm.

    Raises:
        ModelError: timm is not installed.
    """
    from topocompress.models.timm import imagenet_synsets

    return imagenet_synsets()


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, each of whose keys stands there once; others would be lost.

    Raises:
        ValueError: One stands there twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def ordered_names(value: Any) -> tuple[str, ...] | None:
    """Names in the order of their numbers, from a list, ``{name: number}`` or ``{number: name}``; else ``None``."""
    if isinstance(value, Mapping):
        pairs = list(value.items())
        if all(isinstance(name, str) and isinstance(number, int) for name, number in pairs):
            pairs = [(number, name) for name, number in pairs]
        numbered = {int(number): name for number, name in pairs if str(number).isdecimal()}
        if len(numbered) != len(pairs) or sorted(numbered) != list(range(len(pairs))):
            return None
        value = [numbered[number] for number in range(len(pairs))]
    if not isinstance(value, list | tuple) or not value:
        return None
    return tuple(value) if all(isinstance(name, str) and name.strip() for name in value) else None
