"""Scores kept in a file, so that they are made once and used by many cells."""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from topocompress.files import atomic_file
from topocompress.types import LayerScores, Scores


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
