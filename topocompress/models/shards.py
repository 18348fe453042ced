"""State dicts that are split into several files, with an index that says which tensor lies in which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from topocompress.errors import ModelError

_WHOLE = ("model.safetensors", "pytorch_model.bin")
_HINT = "Give a .pt, .pth or .safetensors file, a folder with model.safetensors and its index, or a run directory."


def index_in(folder: Path) -> Path:
    """The index of a folder, or the one file that holds the model.

    Raises:
        ModelError: There is none, or several.
    """
    found = [folder / f"{name}.index.json" for name in _WHOLE]
    present = [file for file in found if file.is_file()] or [
        folder / name for name in _WHOLE if (folder / name).is_file()
    ]
    if not present:
        raise ModelError(f"{folder} is a directory, not a checkpoint", hint=_HINT)
    if len(present) > 1:
        raise ModelError(f"{folder} holds {present[0].name} and {present[1].name}", hint="Give the one that is meant.")
    return present[0]


def read_index(file: Path) -> dict[Path, list[str]]:
    """Which tensors are to be taken from which files, all of which lie in the index's own folder.

    Raises:
        ModelError: The index is damaged, or names a file outside its folder or one that is missing.
    """
    try:
        index = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=_once)
        entries = index["weight_map"].items()
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"{file} is not an index of a checkpoint: {error}", hint=_HINT) from error
    parts: dict[Path, list[str]] = {}
    for tensor, name in entries:
        # What an index says is not to be trusted: it may name any file of this machine.
        if not isinstance(name, str) or name in (".", "..") or Path(name).name != name or "\\" in name or "\0" in name:
            raise ModelError(
                f"{file} names a file outside its folder: {name!r}", hint="Keep the parts beside the index."
            )
        if (file.parent / name).suffix == ".json":
            raise ModelError(
                f"{file} names {name}, which is no part of a checkpoint", hint="Copy or download it again."
            )
        parts.setdefault(file.parent / name, []).append(tensor)
    if not parts:
        raise ModelError(f"{file} is an index of nothing", hint=_HINT)
    for part in parts:
        if not part.is_file():
            raise ModelError(f"{part} is missing, of which {file.name} speaks", hint="Copy or download it as well.")
    return parts


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands there twice")
    return found
