"""Finished parts of a long comparison on disk, each in a file named after everything it depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

import topocompress
from topocompress.runtime.files import atomic_file
from topocompress.runtime.json_files import read_json
from topocompress.runtime.kept import sealed, unsealed, unused

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
        """What was written under a name and a key; ``None`` if nothing was, or if it does not verify, which is said."""
        path = self._path(name, key)
        if path is None:
            return None
        try:
            return unsealed(read_json(path, most=_MOST), path.name)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            unused(path.parent, {path.name: error})
            return None

    def restore(self, name: str, key: Mapping[str, Any], kind: type[T], **same: Any) -> T | None:
        """What was written under a name and a key, as a dataclass of plain values.

        Args:
            name: The name.
            key: The key.
            kind: The dataclass.
            same: What some of its fields must be: the file may have been put there by others.

        Returns:
            ``None`` if nothing was written; also if it does not verify, or is not of this kind, which is said.
        """
        content, path = self.read(name, key), self._path(name, key)
        if content is None or path is None:
            return None
        try:
            found = TypeAdapter(kind).validate_json(json.dumps(content), strict=True)
            if other := [field for field, value in same.items() if getattr(found, field) != value]:
                raise ValueError(f"{other[0]}: it is of another result")
        except ValueError as error:  # of pydantic, too
            unused(path.parent, {path.name: error})
            return None
        return found

    def write(self, name: str, key: Mapping[str, Any], content: Mapping[str, Any]) -> None:
        """Keep a result.

        Raises:
            OutputError: The file cannot be written.
        """
        path = self._path(name, key)
        if path is not None:
            with atomic_file(path) as temporary:
                temporary.write_text(json.dumps(sealed(content, path.name), indent=1), encoding="utf-8")

    def _path(self, name: str, key: Mapping[str, Any]) -> Path | None:
        if self.folder is None:
            return None
        everything = {"topocompress": topocompress.__version__, **self.context, **key}
        digest = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:12]
        safe = "".join(letter if letter.isalnum() or letter in "-=." else "_" for letter in name)
        return self.folder / f"{safe}-{digest}.json"
