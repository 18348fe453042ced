"""JSON that comes from a file: bounded, and only what JSON can say."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any, NoReturn

_DEEPEST = 64
"""Lists and objects in each other; whoever walks through them takes a call for each."""


def read_json(path: Path, *, most: int) -> Any:
    """What a JSON file says.

    Args:
        path: The file.
        most: Bytes that it may have.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no file, is larger, is no JSON, says NaN or infinity, names a key twice, or is nested too
            deeply.
    """
    return parse_json(read_bytes(path, most=most).decode("utf-8"))


def read_bytes(path: Path, *, most: int) -> bytes:
    """What a file holds, if that is no more than so many bytes.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no file, or larger.
    """
    check_regular(path)
    with path.open("rb") as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most / 1e6:.0f} MB")
    return content


def check_regular(path: Path) -> None:
    """Refuse what is there and is no file.

    Raises:
        OSError: Nothing is there.
        ValueError: It is a folder, a pipe or a device.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no file")


def parse_json(text: str) -> Any:
    """What a text in JSON says.

    Raises:
        ValueError: As :func:`read_json`.
    """
    try:
        found = json.loads(text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_once)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    layer, depth = [found], 0
    while layer:
        if (depth := depth + 1) > _DEEPEST:
            raise ValueError("it is nested too deeply")
        inner = (node.values() if isinstance(node, dict) else node for node in layer if isinstance(node, dict | list))
        layer = [value for values in inner for value in values if isinstance(value, dict | list)]
    return found


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _finite(word: str) -> float:
    value = float(word)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{word[:40]} is too large a number")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands there twice")
    return found
