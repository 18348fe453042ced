"""How far long work has come: what every long step takes as ``progress``."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""``progress(step, done, total)``, called as work proceeds. What follows a colon in ``step`` is passing detail."""


def silent(step: str, done: int, total: int) -> None:
    """Show nothing."""
