"""Values of options that are more than a text or a number, read from what the user wrote."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from topocompress.errors import DataError, ModelError, PlanError
from topocompress.runtime.json_files import parse_json

_MOST_SECONDS = 1e6
_LATENCY = "--target-latency"
_WHOLES = {
    "--ratio": "each layer's filters",
    "--max-ratio": "a layer's filters",
    "--target-macs": "the multiply-accumulates",
    _LATENCY: "the original's latency",
}
"""Option → what it is a share of."""
_MOST_VALUES = 100
"""Numbers in one list."""
_SHOWN = 80
"""Characters of what cannot be read that a message shows."""
_AMOUNT = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*([a-z%]*)\s*", re.IGNORECASE)
_SHARE = {"": 1.0, "%": 0.01}
_POINTS = {"": 1.0, "%": 1.0, "points": 1.0, "point": 1.0}
_SECONDS = {"": 1.0, "s": 1.0, "ms": 0.001, "min": 60.0}
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
        PlanError: Not comma-separated numbers between 0 and 1, or percentages.
    """
    found = [_amount(word, _SHARE) for word in text.split(",")]
    numbers = [share for share in found if share is not None and 0 < share < 1]
    if not 0 < len(found) <= _MOST_VALUES or len(numbers) < len(found):
        raise PlanError(
            f"cannot read {option} {text[:_SHOWN]!r}",
            hint=f"Numbers between 0 and 1, such as {option} 0.75,0.5,0.25, or 75%,50%,25%",
        )
    return numbers


def share(option: str, text: str | None) -> float | None:
    """Read a share, as a number (``0.5``) or in percent (``50%``); whether it can be one is seen later.

    Raises:
        PlanError: It is neither.
    """
    if text is None or (found := _amount(text, _SHARE)) is not None:
        return None if text is None else found
    of = _WHOLES.get(option, "a whole")
    if option == _LATENCY and _amount(text, _SECONDS) is not None:
        raise PlanError(
            f"{option} {text[:_SHOWN]!r} is a time, and it is a share of {of} that is asked for",
            hint=f"Where the original takes 8 ms (`topocompress bench` says what it takes), {option} 0.6 is 4.8 ms.",
        )
    raise PlanError(f"cannot read {option} {text[:_SHOWN]!r}", hint=f"A share of {of}: {option} 0.5, or {option} 50%")


def points(option: str, text: str | None) -> float | None:
    """Read points of accuracy, ``1`` or ``1%``.

    Raises:
        PlanError: It is neither.
    """
    if text is None:
        return None
    if (found := _amount(text, _POINTS)) is None:
        raise PlanError(
            f"cannot read {option} {text[:_SHOWN]!r}",
            hint=f"In points of accuracy: {option} 1 where 92 % may become 91 %",
        )
    return found


def seconds(option: str, text: str) -> float:
    """Read a time, ``60``, ``60s`` or ``2min``.

    Raises:
        DataError: It is none of these, or no time to do anything in.
    """
    found = _amount(text, _SECONDS)
    if found is None or not 0 < found <= _MOST_SECONDS:
        raise DataError(f"cannot read {option} {text[:_SHOWN]!r}", hint=f"For example: {option} 60, or {option} 2min")
    return found


def _amount(text: str, units: Mapping[str, float]) -> float | None:
    """A number and its unit, as one number; ``None`` if that is not what it is."""
    found = _AMOUNT.fullmatch(text)
    factor = None if found is None else units.get(found[2].lower())
    return None if found is None or factor is None else float(found[1]) * factor
