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
from topocompress.runtime.json_files import parse_json

FILE = "tuning.safetensors"
_FORMAT = 1
_KEPT = 12


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A training between two epochs.

    Attributes:
        tensors: By part (``model``, ``best``, ``momentum``), name → tensor.
        state: Everything else as plain data: history, random states, ...
    """

    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]


class TuningStore:
    """The latest epoch of one training.

    Args:
        folder: Its own folder.
        run: Everything that the training depends on, as plain data.

    Raises:
        OutputError: The folder cannot be made.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        self.path = folder / FILE
        self._run = digest(run)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot make {folder}: {error.strerror or error}", hint="Choose another folder for checkpoints."
            ) from error

    def load(self) -> Snapshot | None:
        """The latest epoch; ``None`` if there is none, or the file is damaged.

        Raises:
            DataError: The file is of another training.
        """
        try:
            with safe_open(self.path, framework="pt") as file:
                found = dict(file.metadata() or {})
                tensors: dict[str, dict[str, Tensor]] = {}
                for key in file.keys():  # noqa: SIM118 - no mapping
                    part, _, name = key.partition("/")
                    tensors.setdefault(part, {})[name] = file.get_tensor(key)
            run, state = found["run"], parse_json(found["state"])
        except (SafetensorError, OSError, ValueError, KeyError):
            return None
        if run != self._run:
            raise DataError(
                f"{self.path} is of another training: network, samples, settings or seed differ",
                hint="Give another folder, or train without resuming.",
            )
        return Snapshot(tensors=tensors, state=state)

    def damaged(self, why: str) -> DataError:
        """The error of an epoch that says what this training cannot take up."""
        return DataError(f"{self.path} is damaged: {why}", hint="Remove it, or train without resuming.")

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
        metadata = {"run": self._run, "state": json.dumps(snapshot.state)}
        try:
            with atomic_file(self.path) as temporary:
                save_file(tensors, temporary, metadata=metadata)
        except (OutputError, SafetensorError):
            return False
        return True


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
    """Give each parameter the momentum that :func:`optimiser_tensors` found."""
    parameters: list[nn.Parameter] = [each for group in optimiser.param_groups for each in group["params"]]
    for name, buffer in momentum.items():
        owner = parameters[int(name)]
        optimiser.state[owner]["momentum_buffer"] = torch.empty_like(owner).copy_(buffer)
