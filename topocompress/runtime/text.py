"""Text that is shown: names of files, layers and classes come from anywhere, and a terminal obeys what is in them."""

from __future__ import annotations

import unicodedata

_OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Categories of Unicode: control characters, those that turn or hide text, halves of a character, ends of a line."""
_JOINERS = "\u200c\u200d\u00ad"
"""Format characters that letters and emoji need."""


def printable(text: str, *, lines: bool = False) -> str:
    """A text in which nothing moves the cursor, changes colours, turns the direction, or cannot be written in UTF-8.

    Args:
        text: Any text.
        lines: Whether ends of lines stay, each followed by spaces, so that no line of it looks like one of ours.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text)) if not lines else "\n  ".join(printable(line) for line in text.split("\n"))


def _shown(letter: str) -> str:
    if unicodedata.category(letter) not in _OBEYED or letter in _JOINERS:
        return letter
    return letter.encode("unicode_escape").decode("ascii")
