"""Finished parts of a long comparison on disk, each in a file named after everything it depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

import topocompress
from topocompress.runtime.files import atomic_file
from topocompress.runtime.json_files import read_json

T = TypeVar("T")

_MOST = 2**20
"""Bytes of a result."""


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
            content = read_json(path, most=_MOST)
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def restore(self, name: str, key: Mapping[str, Any], kind: type[T], **same: Any) -> T | None:
        """What was written under a name and a key, as a dataclass of plain values.

        Args:
            name: The name.
            key: The key.
            kind: The dataclass.
            same: What some of its fields must be: the file may have been put there by others.

        Returns:
            ``None`` if nothing was written, or it cannot be read, or is not of this kind.
        """
        content = self.read(name, key)
        if content is None:
            return None
        try:
            found = TypeAdapter(kind).validate_json(json.dumps(content), strict=True)
        except ValidationError:
            return None
        return found if all(getattr(found, field) == value for field, value in same.items()) else None

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
