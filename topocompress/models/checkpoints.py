"""Reading checkpoint files that may come from anywhere: no code of theirs runs unless the user says so."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from topocompress.errors import ModelError
from topocompress.models.contents import Checkpoint, find_weights
from topocompress.models.factories import current_directory_importable
from topocompress.models.files import BROKEN_HINT, check_file
from topocompress.models.pickle_survey import foreign_names, survey
from topocompress.models.pickles import read_inert
from topocompress.models.shards import index_in, read_index
from topocompress.runtime.borders import border

_EXTRA = "_extra_state"


def read_checkpoint(
    path: str | os.PathLike[str], *, trust_pickle: bool = False, weights_key: str | None = None
) -> Checkpoint:
    """Read the weights of a file; the format is told by the content.

    Files of ``torch.save`` (.pt, .pth, .ckpt, .bin), of safetensors and pickles with numpy arrays, and what is split
    into several files with an index (``model.safetensors.index.json``), given as the index or as the folder.

    Args:
        path: The file or folder.
        trust_pickle: Let the file run code of its own, which a pickled module needs. Otherwise objects beside the
            weights are left out.
        weights_key: Which of several state dicts to take, as dotted keys.

    Returns:
        Every state dict in it, on the CPU; a module only with ``trust_pickle``, if the file holds a whole one.

    Raises:
        ModelError: Missing, empty, truncated, another format, or no weights inside.
    """
    file = Path(path)
    if file.is_dir():
        file = index_in(file)
    kind = check_file(file)
    foreign: list[str] = []
    if kind == "index":
        parts = read_index(file)
        contents: Any = {}
        for part, names in parts.items():
            inside = _merged(read_checkpoint(part, trust_pickle=trust_pickle))
            if lacking := [name for name in names if name not in inside]:
                raise ModelError(f"{part} lacks {lacking[0]}, which {file} says it holds", hint=BROKEN_HINT)
            contents.update((name, inside[name]) for name in names)
    elif kind == "safetensors":
        contents = _read_safetensors(file)
    else:
        contents, foreign = _read_torch(file, trust_pickle=trust_pickle)
    return find_weights(contents, str(file), key=weights_key, foreign=foreign)


def _merged(checkpoint: Checkpoint) -> Mapping[str, Tensor]:
    """The tensors of one of several files, which holds nothing else."""
    if len(checkpoint.candidates) != 1 or checkpoint.candidates[0].name:
        raise ModelError(f"{checkpoint.source} holds more than a part of a state dict", hint="Give this file itself.")
    return checkpoint.candidates[0].state


def check_dense(state: Mapping[str, Any], where: str) -> None:
    """Refuse weights that are quantised or sparse, or have no values.

    Raises:
        ModelError: Names the first such tensor.
    """
    for name, tensor in state.items():
        if is_lazy(tensor) or (isinstance(tensor, Tensor) and tensor.is_meta):
            raise ModelError(
                f"{where}: {name} has no values yet: it is on the meta device, or of a lazy layer",
                hint="Build the network on the CPU, its layers with the number of input channels.",
            )
        if not isinstance(tensor, Tensor):
            if name.endswith(_EXTRA):
                continue
            raise ModelError(
                f"{where}: {name} is a {type(tensor).__name__}, as in quantised networks, which cannot be pruned",
                hint="Use the float32 network.",
            )
        if tensor.is_complex():
            raise ModelError(
                f"{where}: {name} holds complex numbers, which cannot be pruned", hint="Use a network of real weights."
            )
        if tensor.is_quantized or tensor.layout != torch.strided:
            kind = "quantised" if tensor.is_quantized else "sparse"
            raise ModelError(
                f"{where}: {name} is a {kind} tensor, which cannot be pruned", hint="Use the float32 weights."
            )


def check_finite(state: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights that hold NaN or Inf.

    Raises:
        ModelError: Names the first such tensor.
    """
    for name, tensor in state.items():
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            count = int((~torch.isfinite(tensor)).sum())
            raise ModelError(
                f"{where}: {name} {tuple(tensor.shape)} holds {count} values that are NaN or Inf",
                hint="Its training diverged, or the file is damaged; take an earlier checkpoint.",
            )


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    with border(lambda why: ModelError(f"{file} is not a safetensors file, or is truncated ({why})", hint=BROKEN_HINT)):
        return dict(load_file(file, device="cpu"))


def _read_torch(file: Path, *, trust_pickle: bool) -> tuple[Any, list[str]]:
    """What ``torch.save`` wrote, and the classes in it that were not loaded."""
    if trust_pickle:
        hint = "Run where the classes it was saved from can be imported; otherwise the file may be truncated."
        with border(lambda why: ModelError(f"cannot load {file}: {why}", hint=hint)), current_directory_importable():
            return torch.load(file, weights_only=False, map_location="cpu"), []
    damaged = f"{file} is not a PyTorch checkpoint, or is truncated"
    with border(lambda why: ModelError(f"{damaged} ({why})", hint=BROKEN_HINT)):
        asked = survey(file)
        # What torch.load would call may take any memory; what it cannot read, foreign objects say, the other can.
        if asked.bounded:
            with contextlib.suppress(Exception), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of pickles in another protocol, which it then refuses
                return torch.load(file, weights_only=True, map_location="cpu"), []
        return read_inert(file), foreign_names(asked.names)
