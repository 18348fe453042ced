"""Finished scores on disk, layer by layer: what an interrupted run continues from and a second run reuses."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import platformdirs
from pydantic import BaseModel, ConfigDict, Field

from topocompress.errors import OutputError
from topocompress.runtime.files import atomic_file
from topocompress.runtime.json_files import read_json
from topocompress.runtime.kept import sealed, unsealed, unused
from topocompress.types import LayerScores

_FORMAT = 1
_KEPT = 200
_MOST = 64 * 2**20
"""Bytes of the file of a layer."""


class _Entry(BaseModel):
    """What the file of a layer says."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    layer: Annotated[str, Field(max_length=10_000)]
    values: list[float]
    parts: dict[str, list[float]]
    dead: list[bool]
    scale: Annotated[str, Field(max_length=100)] = ""

    def scores(self) -> LayerScores:
        if any(len(part) != len(self.values) for part in self.parts.values()):
            raise ValueError("parts of other lengths")
        return LayerScores(
            values=np.array(self.values, dtype=np.float64),
            parts={name: np.array(part, dtype=np.float64) for name, part in self.parts.items()},
            dead=np.array(self.dead, dtype=np.bool_),
            scale=self.scale,
        )


def default_cache() -> Path:
    """Where scores are kept between runs: ``TOPOCOMPRESS_CACHE``, or else the user's cache folder."""
    chosen = os.environ.get("TOPOCOMPRESS_CACHE")
    return (Path(chosen) if chosen else Path(platformdirs.user_cache_path("topocompress"))) / "scores"


class ScoreStore:
    """The scores of one model, on one set of samples, by one criterion with one set of settings.

    Args:
        cache: Folder of all stores.
        key: Everything that the scores depend on, as plain data.
        resume: Whether layers that an interrupted run has left are used; scores of a finished run always are.
    """

    def __init__(self, cache: Path, key: Mapping[str, Any], *, resume: bool) -> None:
        text = json.dumps({"format": _FORMAT, **key}, sort_keys=True)
        self.folder = cache / hashlib.sha256(text.encode()).hexdigest()[:32]
        self._finished = self.folder / "finished"
        self._resume = resume

    def load(self) -> dict[str, LayerScores]:
        """Name → scores of the layers that may be used; what does not verify counts as missing, and is said."""
        found: dict[str, LayerScores] = {}
        wrong: dict[str, Exception] = {}
        if not (self._resume or os.path.exists(self._finished)):  # noqa: PTH110 - Path.exists raises for long names
            return found
        for path in sorted(self.folder.glob("*.json")):
            try:
                entry = _Entry.model_validate(unsealed(read_json(path, most=_MOST), self.folder.name))
                if path.stem != _named(entry.layer):
                    raise ValueError("it is of another layer")
                found[entry.layer] = entry.scores()
            except (OSError, ValueError) as error:  # of pydantic and of ours, too
                wrong[path.name] = error
        unused(self.folder, wrong)
        return found

    def save(self, layer: str, scores: LayerScores) -> None:
        """Keep one layer's scores.

        A cache that cannot be written is no reason to lose the scores: then nothing is kept.
        """
        content = {
            "layer": layer,
            "values": scores.values.tolist(),
            "parts": {name: part.tolist() for name, part in scores.parts.items()},
            "dead": scores.dead.tolist(),
            "scale": scores.scale,
        }
        with contextlib.suppress(OutputError), atomic_file(self.folder / f"{_named(layer)}.json") as temporary:
            temporary.write_text(json.dumps(sealed(content, self.folder.name)), encoding="utf-8")

    def finish(self) -> None:
        """Say that every layer is here, and drop the oldest of too many stores."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._finished.touch()
            stores = sorted((path for path in self.folder.parent.glob("?" * 32) if path.is_dir()), key=_age)
            for old in stores[:-_KEPT]:
                shutil.rmtree(old, ignore_errors=True)


def _named(layer: str) -> str:
    return hashlib.sha256(layer.encode()).hexdigest()[:16]


def _age(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:  # another run has just dropped it
        return 0.0
