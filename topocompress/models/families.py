"""Families of architectures: what their networks have right below them, whatever their depth and width."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torchvision

from topocompress.models.architectures import BUILTIN, dense_names, published_weights, shapes_of, torchvision_names
from topocompress.models.keys import optional

AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
FAMILY = re.compile("[a-z]+")
TOP_LEVEL = Path(__file__).parent / "assets" / "top_level.json"
"""Family → the names right below its networks; ``python -m topocompress.models.families`` writes it for a release."""


def parameters(name: str) -> int:
    """Parameters of a torchvision network with the published classes, known without building it."""
    return int(next(iter(published_weights(name).values())).meta["num_params"])


def keys_of(shapes: Mapping[str, Any]) -> set[str]:
    """The names of weights that a checkpoint must have."""
    return {key for key in shapes if not optional(key)}


def top_level_of(name: str) -> frozenset[str]:
    """The names right below an architecture."""
    return _family_top_level(FAMILY.findall(name)[0])


def _family_top_level(family: str) -> frozenset[str]:
    return _known_families().get(family) or built_top_level(family)


@functools.cache
def _known_families() -> Mapping[str, frozenset[str]]:
    """The names of each family, as they are kept for a release of torchvision; building them all takes seconds."""
    kept = json.loads(TOP_LEVEL.read_text(encoding="utf-8"))
    here = ".".join(torchvision.__version__.split(".")[:2])
    return (
        {family: frozenset(names) for family, names in kept["families"].items()} if kept["torchvision"] == here else {}
    )


@functools.lru_cache(maxsize=64)
def built_top_level(family: str) -> frozenset[str]:
    """The top-level names of a family of architectures, by building its smallest member."""
    members = [name for name in _all_names() if FAMILY.findall(name)[0] == family]
    smallest = min(members, key=lambda name: 0 if name in BUILTIN else parameters(name))
    return top_level(keys_of(shapes_of(smallest, (("aux_logits", False),) if smallest in AUXILIARY else ())))


def _all_names() -> list[str]:
    return [*BUILTIN, *torchvision_names(), *dense_names()]


def families() -> list[str]:
    """The families of all architectures that are recognised, such as ``resnet``."""
    return sorted({FAMILY.findall(name)[0] for name in _all_names()})


def top_level(keys: Iterable[str]) -> frozenset[str]:
    """The first parts of names."""
    return frozenset(key.partition(".")[0] for key in keys)


if __name__ == "__main__":
    release = ".".join(torchvision.__version__.split(".")[:2])
    content = {"torchvision": release, "families": {family: sorted(built_top_level(family)) for family in families()}}
    TOP_LEVEL.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
