"""Files of results: one record a line, and never half a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from topocompress.reporting import environment
from topocompress.runtime.files import atomic_file

FOLDER = Path(__file__).parents[1] / "results"
LONGEST = 10_000
"""Characters of a record; a longer one has a line for each of its parts."""


def kept(study: str) -> Path:
    """Where the results of a study are kept."""
    return FOLDER / f"{study}.json"


def read(path: Path) -> Any:
    """What a file holds; nothing, if there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write(path: Path, content: Any) -> None:
    """Write JSON in the order given, one entry of the outermost object or list a line."""
    plain = json.loads(json.dumps(content))  # every name a string
    with atomic_file(path) as temporary:
        temporary.write_text("".join(_lines(plain, 0)) + "\n", encoding="utf-8")


def _lines(content: Any, depth: int) -> Iterator[str]:
    whole = json.dumps(content, ensure_ascii=False)
    if not content or not isinstance(content, dict | list) or (depth and len(whole) <= LONGEST):
        yield whole
        return
    named = isinstance(content, dict)
    yield "{" if named else "["
    for place, entry in enumerate(content):
        yield (",\n" if place else "\n") + " " * (depth + 1)
        if named:
            yield f"{json.dumps(entry, ensure_ascii=False)}: "
        yield from _lines(content[entry] if named else entry, depth + 1)
    yield "\n" + " " * depth + ("}" if named else "]")


class Results:
    """Records by name, kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: dict[str, Any] = read(path)

    def once(self, name: str, measure: Callable[[], Any]) -> Any:
        """The record of a name, measured now if it has not been yet."""
        if name not in self.rows:
            self.rows[name] = measure()
            self.rows["machine"] = environment.describe()
            self.save()
        return self.rows[name]

    def save(self) -> None:
        """Write the file, in the order of names."""
        write(self._path, dict(sorted(self.rows.items())))
