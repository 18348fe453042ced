"""Finished parts of a long comparison on disk, each in a file named after everything it depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import topocompress
from topocompress.runtime.files import atomic_file


@dataclass(frozen=True, kw_only=True)
class ResultStore:
    """A folder of results.

    Attributes:
        folder: Where they are; nothing is kept if ``None``.
        context: What all of them depend on, plain data for JSON.
    """

    folder: Path | None
    context: Mapping[str, Any]

    def read(self, name: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """What was written under a name and a key; ``None`` if nothing was, or it cannot be read."""
        path = self._path(name, key)
        if path is None:
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def write(self, name: str, key: Mapping[str, Any], content: Mapping[str, Any]) -> None:
        """Keep a result.

        Raises:
            OutputError: The file cannot be written.
        """
        path = self._path(name, key)
        if path is not None:
            with atomic_file(path) as temporary:
                temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")

    def _path(self, name: str, key: Mapping[str, Any]) -> Path | None:
        if self.folder is None:
            return None
        everything = {"topocompress": topocompress.__version__, **self.context, **key}
        digest = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:12]
        safe = "".join(letter if letter.isalnum() or letter in "-=." else "_" for letter in name)
        return self.folder / f"{safe}-{digest}.json"
