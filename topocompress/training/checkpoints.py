"""Fine-tuning on disk, epoch by epoch: what a killed run continues from. safetensors and JSON, nothing unpickled."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from topocompress.errors import DataError, OutputError
from topocompress.runtime.files import atomic_file
from topocompress.runtime.json_files import check_regular, parse_json
from topocompress.runtime.kept import unused

FILE = "tuning.safetensors"
_FORMAT = 1
_KEPT = 12
_MOST_STATE = 64 * 2**20
"""Bytes of everything but the tensors."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A training between two epochs.

    Attributes:
        tensors: By part (``model``, ``best``, ``momentum``), name → tensor.
        state: Everything else as plain data: history, random states, ...
    """

    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]


class Foreign(DataError):
    """A file of another training."""


class TuningStore:
    """The latest epoch of one training.

    Args:
        folder: Its own folder.
        run: Everything that the training depends on, as plain data.
        cached: Whether the folder is a place in the cache, where nothing is lost if a file of another training goes.

    Raises:
        OutputError: The folder cannot be made.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any], *, cached: bool = False) -> None:
        self.path = folder / FILE
        self._run = digest(run)
        self._cached = cached
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot make {folder}: {error.strerror or error}", hint="Choose another folder for checkpoints."
            ) from error

    def load(self, most: int) -> Snapshot | None:
        """The latest epoch; ``None`` if there is none, or the file does not verify, which is said.

        Args:
            most: Bytes that its tensors may have.

        Raises:
            DataError: The file is of another training, and not in the cache.
        """
        try:
            return self._verified(most)
        except FileNotFoundError:
            return None
        except Foreign as error:
            if not self._cached:
                raise
            self.unused(error)
        except (SafetensorError, OSError, ValueError) as error:
            self.unused(error)
        return None

    def _verified(self, most: int) -> Snapshot:
        check_regular(self.path)
        if self.path.stat().st_size > most + _MOST_STATE:
            raise ValueError(f"it has more than {(most + _MOST_STATE) / 1e6:.0f} MB")
        with safe_open(self.path, framework="pt") as file:
            found = dict(file.metadata() or {})
            flat: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        said = [found.get(name, "") for name in ("run", "state", "sha256")]
        if not all(said):
            raise ValueError("it is no epoch of topocompress")
        if said[2] != _hash(flat, said[1]):
            raise ValueError("it was edited: its hash does not match")
        if said[0] != self._run:
            raise Foreign(
                f"{self.path} is of another training: network, samples, settings or seed differ",
                hint="Give another folder, or train without resuming.",
            )
        tensors: dict[str, dict[str, Tensor]] = {}
        for key, tensor in flat.items():
            part, _, name = key.partition("/")
            tensors.setdefault(part, {})[name] = tensor
        return Snapshot(tensors=tensors, state=parse_json(said[1]))

    def unused(self, error: Exception) -> None:
        """Say that the file cannot be used."""
        unused(self.path.parent, {self.path.name: error})

    def save(self, snapshot: Snapshot) -> bool:
        """Put an epoch in place of the one before; returns whether that worked.

        A folder that cannot be written any more is no reason to lose the training.
        """
        tensors = {
            f"{part}/{name}": tensor.detach().to("cpu", copy=True).contiguous()
            for part, group in snapshot.tensors.items()
            for name, tensor in group.items()
        }
        # safetensors finds tensors that share memory by their storage; copies share none.
        state = json.dumps(snapshot.state)
        metadata = {"run": self._run, "state": state, "sha256": _hash(tensors, state)}
        try:
            with atomic_file(self.path) as temporary:
                save_file(tensors, temporary, metadata=metadata)
        except (OutputError, SafetensorError):
            return False
        return True


def _hash(tensors: Mapping[str, Tensor], state: str) -> str:
    found = hashlib.sha256(state.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def digest(content: Mapping[str, Any]) -> str:
    """A name that follows from plain data."""
    text = json.dumps({"format": _FORMAT, "torch": torch.__version__, **content}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def place(cache: Path, content: Mapping[str, Any]) -> Path:
    """Folder of a training in the cache; all but the newest few others, left by runs that were given up, go."""
    folder = cache / "tuning" / digest(content)
    with contextlib.suppress(OSError):
        others = [path for path in folder.parent.iterdir() if path.is_dir() and path != folder]
        for old in sorted(others, key=lambda path: path.stat().st_mtime)[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    return folder


def optimiser_tensors(optimiser: torch.optim.SGD) -> dict[str, Tensor]:
    """Position of each parameter → its momentum."""
    parameters = [each for group in optimiser.param_groups for each in group["params"]]
    found = {str(place): optimiser.state[each].get("momentum_buffer") for place, each in enumerate(parameters)}
    return {name: buffer for name, buffer in found.items() if buffer is not None}


def restore_optimiser(optimiser: torch.optim.SGD, momentum: Mapping[str, Tensor]) -> None:
    """Give each parameter the momentum that :func:`optimiser_tensors` found.

    Raises:
        ValueError: There is no such parameter, or it has another shape.
    """
    parameters: list[nn.Parameter] = [each for group in optimiser.param_groups for each in group["params"]]
    owners = {str(place): parameter for place, parameter in enumerate(parameters)}
    for name, buffer in momentum.items():
        owner = owners.get(name)
        if owner is None or owner.shape != buffer.shape:
            raise ValueError("it has momentum of other parameters")
        optimiser.state[owner]["momentum_buffer"] = torch.empty_like(owner).copy_(buffer)
