"""Scores kept in a file, so that they are made once and used by many cells, and the name they are kept by."""

from __future__ import annotations

import functools
import gzip
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from topocompress.criteria.registry import create
from topocompress.errors import CriterionError
from topocompress.runtime.files import atomic_file
from topocompress.types import LayerScores, Scores
from topocompress.workflows.compare import GLOBAL


def write_scores(file: Path, scores: Scores) -> None:
    """Keep scores as compressed JSON."""
    content = asdict(scores)
    content["layers"] = {
        layer: {"values": each.values.tolist(), "dead": each.dead.tolist()} for layer, each in scores.layers.items()
    }
    with atomic_file(file) as temporary:
        temporary.write_bytes(gzip.compress(json.dumps(content).encode(), mtime=0))


def read_scores(file: Path) -> Scores:
    """What :func:`write_scores` has kept, without the parts of which scores are the sums."""
    content = json.loads(gzip.decompress(file.read_bytes()))
    layers = {
        layer: LayerScores(values=np.array(each["values"]), dead=np.array(each["dead"], dtype=np.bool_))
        for layer, each in content.pop("layers").items()
    }
    return Scores(layers=layers, **content)


@functools.cache
def scored_as(name: str, epochs: int) -> str:
    """The criterion behind a cell, with the settings that it has where fine-tuning follows; they cut alike anywhere.

    Args:
        name: As in :func:`topocompress.workflows.compare.compare`.
        epochs: Of fine-tuning.
    """
    bare = name.removesuffix(GLOBAL)
    try:
        criterion = create(bare)
    except CriterionError:  # of a package that is not here; its scores may be
        return bare
    if not epochs:
        return bare
    changed = criterion.before_tuning().settings_against(criterion)
    return "+".join([bare, *(f"{key}={value:g}" for key, value in changed.items())])
