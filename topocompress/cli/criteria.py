"""``topocompress criteria``."""

from __future__ import annotations

from topocompress import console


def criteria() -> None:
    """List the criteria that are installed: name, package, what it is."""
    from topocompress.criteria.registry import available

    console.show_criteria(available())
