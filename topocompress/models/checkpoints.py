"""Reading checkpoint files that may come from anywhere: no code of theirs runs unless the user says so."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from topocompress.errors import ModelError
from topocompress.models.contents import SAVE_HINT as _SAVE_HINT
from topocompress.models.contents import Checkpoint, find_weights
from topocompress.models.factories import current_directory_importable
from topocompress.models.pickle_survey import foreign_names, survey
from topocompress.models.pickles import read_inert
from topocompress.models.shards import index_in, read_index

_PACKED = {
    b"\x1f\x8b": "file packed by gzip",
    b"BZh": "file packed by bzip2",
    b"\xfd7zXZ": "file packed by xz",
    b"(\xb5/\xfd": "file packed by zstd",
    b"7z\xbc\xaf": "7z archive",
    b"Rar!": "rar archive",
}
_EXTRA = "_extra_state"
_BROKEN_HINT = "Copy or download it again, and compare the sizes."


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
    _check_readable(file)
    with file.open("rb") as stream:
        head = stream.read(64).ljust(64, b"\0")
        stream.seek(257)
        tar = stream.read(5) == b"ustar"
    foreign: list[str] = []
    if file.suffix.lower() == ".json":
        parts = read_index(file)
        contents: Any = {}
        for part, names in parts.items():
            inside = _merged(read_checkpoint(part, trust_pickle=trust_pickle))
            if lacking := [name for name in names if name not in inside]:
                raise ModelError(f"{part} lacks {lacking[0]}, which {file} says it holds", hint=_BROKEN_HINT)
            contents.update((name, inside[name]) for name in names)
    elif zipfile.is_zipfile(file):
        _refuse_other_archives(file)
        contents, foreign = _read_torch(file, trust_pickle=trust_pickle)
    elif head[8:9] == b"{":
        contents = _read_safetensors(file)
    else:
        _refuse_other_formats(file, head, tar=tar)
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


def _check_readable(file: Path) -> None:
    if not file.exists():
        raise ModelError(f"{file} does not exist", hint="Check the path of the checkpoint.")
    if not file.is_file():
        raise ModelError(f"{file} is not a file", hint="Give the checkpoint file itself.")
    try:
        with file.open("rb") as stream:
            empty = not stream.read(1)
    except OSError as error:
        raise ModelError(f"cannot read {file}: {error.strerror or error}", hint="Check its permissions.") from error
    if empty:
        raise ModelError(f"{file} is empty", hint=_BROKEN_HINT)


def _refuse_other_archives(file: Path) -> None:
    """Tell torch.save's zip archives from the others by what is inside."""
    with zipfile.ZipFile(file) as archive:
        # Everything lies under one top folder, whose name is of no interest.
        members = {name.partition("/")[2] for name in archive.namelist()} | set(archive.namelist())
    if "constants.pkl" in members or any(name.startswith("code/") for name in members):
        raise ModelError(
            f"{file} is a TorchScript program, whose graph is frozen: filters cannot be removed from it",
            hint=f"Use the Python model it was made from. {_SAVE_HINT}",
        )
    if "archive_format" in members or any(name.startswith("serialized_exported_program") for name in members):
        raise ModelError(
            f"{file} is a torch.export program, whose graph is frozen: filters cannot be removed from it",
            hint=f"Use the Python model it was exported from. {_SAVE_HINT}",
        )
    if "data.pkl" not in members:
        raise ModelError(f"{file} is a zip archive, but not one that torch.save writes", hint=_SAVE_HINT)


def _refuse_other_formats(file: Path, head: bytes, *, tar: bool) -> None:
    packed = next((name for magic, name in _PACKED.items() if head.startswith(magic)), "tar archive" if tar else "")
    if packed:
        raise ModelError(f"{file} is a {packed}", hint="Unpack it first, and give the checkpoint inside.")
    # ONNX is a protobuf without a magic number: field 1 (ir_version, a small varint), then the next of its fields.
    if file.suffix.lower() == ".onnx" or (head[0] == 0x08 and head[1] < 32 and head[2] in (0x12, 0x1A, 0x3A, 0x42)):
        raise ModelError(
            f"{file} is an ONNX model, whose graph is frozen: topocompress prunes PyTorch models and writes ONNX",
            hint=f"Use the PyTorch model it was exported from. {_SAVE_HINT}",
        )
    if head.startswith(b"\x89HDF"):
        raise ModelError(f"{file} is an HDF5 file (Keras?), not a PyTorch checkpoint", hint=_SAVE_HINT)
    if head[4:8] == b"TFL3":
        raise ModelError(f"{file} is a TensorFlow Lite model, not a PyTorch checkpoint", hint=_SAVE_HINT)
    if head.startswith(b"PK"):
        raise ModelError(f"{file} is truncated: the end of its archive is missing", hint=_BROKEN_HINT)
    if head[0] != 0x80:  # every pickle of protocol 2 or later, torch.save's old format included, starts so
        if file.suffix.lower() == ".safetensors":
            raise ModelError(f"{file} is not a safetensors file, or is damaged", hint=_BROKEN_HINT)
        raise ModelError(f"{file} is not a PyTorch checkpoint", hint="Accepted: .pt, .pth and .safetensors files.")


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(file, device="cpu"))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ModelError(f"{file} is not a safetensors file, or is truncated ({error})", hint=_BROKEN_HINT) from error


def _read_torch(file: Path, *, trust_pickle: bool) -> tuple[Any, list[str]]:
    """What ``torch.save`` wrote, and the classes in it that were not loaded."""
    if trust_pickle:
        try:
            with current_directory_importable():
                return torch.load(file, weights_only=False, map_location="cpu"), []
        except Exception as error:  # unpickling runs the file's own code, which may raise anything
            raise ModelError(
                f"cannot load {file}: {type(error).__name__}: {error}",
                hint="Run where the classes it was saved from can be imported; otherwise the file may be truncated.",
            ) from error
    try:
        names = survey(file)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of pickles in another protocol, which it then refuses
                return torch.load(file, weights_only=True, map_location="cpu"), []
        except Exception:  # noqa: BLE001  # foreign objects, or the file is damaged, which the next reader tells
            return read_inert(file), foreign_names(names)
    except Exception as error:  # a damaged file makes the readers raise nearly anything (KeyError, EOFError, ...)
        raise ModelError(
            f"{file} is not a PyTorch checkpoint, or is truncated ({_reason(error)})", hint=_BROKEN_HINT
        ) from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}".rstrip(": ")
