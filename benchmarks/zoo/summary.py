"""What the last results say, in a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.zoo.model import CRITERIA
from benchmarks.zoo.page import passed


def summary(found: Mapping[str, Any]) -> str:
    """How many networks pass, and which do not."""
    models: Mapping[str, Any] = found.get("models", {})
    if not models:
        return ""
    failed = [name for name, entry in models.items() if not passed(entry)]
    text = f"{len(models) - len(failed)} of {len(models)} networks pass by {' and by '.join(CRITERIA)}"
    return f"{text}; failed: {', '.join(failed)}" if failed else text
