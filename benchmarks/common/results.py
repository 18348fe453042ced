"""Measurements by name, kept in a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from topocompress.reporting import environment
from topocompress.runtime.files import atomic_file


class Results:
    """Measurements by name, kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def once(self, name: str, measure: Callable[[], Any]) -> Any:
        """The measurement of a name, made now if it has not been made yet."""
        if name not in self.rows:
            self.rows[name] = measure()
            self.rows["machine"] = environment.describe()
            with atomic_file(self._path) as temporary:
                temporary.write_text(json.dumps(self.rows, indent=1) + "\n", encoding="utf-8")
        return self.rows[name]
