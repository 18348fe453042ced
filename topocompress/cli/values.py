"""Values of options that are more than a text or a number, read from what the user wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from topocompress.errors import DataError, ModelError, PlanError
from topocompress.runtime.json_files import parse_json

_MOST_VALUES = 100
"""Numbers in one list."""
_SHOWN = 80
"""Characters of what cannot be read that a message shows."""
_PYTHON = {"True": True, "False": False, "None": None}
"""What people write who know Python better than JSON; taken for texts, all three would be true."""


def pixels(text: str | None) -> int | tuple[int, int] | None:
    """What ``--input-size`` says: one number for both sides, or height and width."""
    if text is None:
        return None
    try:
        sizes = [int(word) for word in text.lower().split("x")]
    except ValueError:
        sizes = []
    if len(sizes) not in (1, 2) or min(sizes, default=0) < 1:
        raise DataError(f"cannot read the input size {text!r}", hint="For example: --input-size 224 or 224x320")
    return sizes[0] if len(sizes) == 1 else (sizes[0], sizes[1])


def arguments(words: Sequence[str]) -> dict[str, Any]:
    """What ``--arch-args`` says: names and values, these as JSON has them, or else as text.

    Raises:
        ModelError: Not of this form, or a name that stands there twice.
    """
    found: dict[str, Any] = {}
    for word in " ".join(words).split():
        name, equals, text = word.partition("=")
        if not equals or not name.isidentifier():
            raise ModelError(f"cannot read --arch-args {word!r}", hint="For example: --arch-args num_classes=5")
        if name in found:
            raise ModelError(f"--arch-args names {name} twice", hint="Give each argument once.")
        if text in _PYTHON:
            found[name] = _PYTHON[text]
            continue
        try:
            found[name] = parse_json(text)
        except ValueError:
            found[name] = text
    return found


def whole_numbers(option: str, text: str, most: int) -> list[int]:
    """Whole numbers from 1 to ``most``, separated by commas.

    Raises:
        DataError: They are not.
    """
    try:
        found = [int(word) for word in text.split(",")]
    except ValueError:
        found = []
    if not 0 < len(found) <= _MOST_VALUES or not all(1 <= number <= most for number in found):
        hint = f"Whole numbers from 1 to {most}, for example: {option} 1,8"
        raise DataError(f"cannot read {option} {text[:_SHOWN]!r}", hint=hint)
    return found


def shares(option: str, text: str) -> list[float]:
    """Read an option that is several shares.

    Raises:
        PlanError: Not comma-separated numbers between 0 and 1.
    """
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        found = []
    if not 0 < len(found) <= _MOST_VALUES or not all(0 < share < 1 for share in found):
        raise PlanError(
            f"cannot read {option} {text[:_SHOWN]!r}", hint=f"Numbers between 0 and 1, such as {option} 0.75,0.5,0.25"
        )
    return found
