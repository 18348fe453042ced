"""What is kept of each network: its entry, and the file of all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from benchmarks.common.results import read, write
from benchmarks.zoo.children import Outcome
from benchmarks.zoo.page import passed
from topocompress.models.architectures import torchvision_names
from topocompress.reporting import environment


class Results:
    """What was found out about each network, kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.found: dict[str, Any] = read(path)
        self.found.setdefault("models", {})

    def put(self, name: str, entry: Mapping[str, Any]) -> None:
        """Keep one network's entry, in the order of names."""
        machine = environment.describe()
        models = {**self.found["models"], name: {**entry, "processor": machine["processor"]}}
        self.found["models"] = dict(sorted(models.items()))
        self.found["machine"] = machine
        write(self._path, self.found)


def entry_of(outcome: Outcome, settings: Mapping[str, Any]) -> dict[str, Any]:
    """One network's entry from what its process said, also where that process did not live to the end.

    Args:
        outcome: How the process ended.
        settings: What it was run with, kept in the entry.
    """
    said = [json.loads(line) for line in outcome.output.splitlines() if line.startswith("{") and line.endswith("}")]
    entry: dict[str, Any] = {"rows": [], "settings": dict(settings)}
    step = "start"
    for line in said:
        step = line.get("step", step)
        entry |= line.get("facts", {})
        if "row" in line:
            entry["rows"].append(line["row"])
    entry |= {"wall_seconds": round(outcome.seconds, 1), "peak_bytes": outcome.peak}
    if outcome.stopped or outcome.status:
        why = outcome.stopped or f"exit status {outcome.status}: {outcome.complaint}"
        entry["failure"] = {"step": step, "error": why[:300]}
    return entry


def wanted(pattern: str, results: Results, again: str | None) -> list[str]:
    """The networks to look at now: those not looked at, and those that shall be looked at again."""
    chosen = [name for name in torchvision_names() if any(fnmatchcase(name, part) for part in pattern.split(","))]
    found = results.found["models"]
    return [
        name
        for name in chosen
        if name not in found or again == "all" or (again == "failed" and not passed(found[name]))
    ]
