"""What can be said of a model's file without torch: whether it is there, and of which kind it is."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from topocompress.errors import ModelError

SAVE_HINT = "Save the weights instead: torch.save(model.state_dict(), 'model.pt')."
_PACKED = {
    b"\x1f\x8b": "file packed by gzip",
    b"BZh": "file packed by bzip2",
    b"\xfd7zXZ": "file packed by xz",
    b"(\xb5/\xfd": "file packed by zstd",
    b"7z\xbc\xaf": "7z archive",
    b"Rar!": "rar archive",
}
BROKEN_HINT = "Copy or download it again, and compare the sizes."
Kind = Literal["index", "safetensors", "torch"]


def check_file(file: Path) -> Kind:
    """The kind of a checkpoint by what it begins with; its contents are not read.

    Returns:
        ``index`` of a checkpoint in several files, ``safetensors``, or ``torch`` for what torch.save wrote and pickles.

    Raises:
        ModelError: Missing, empty, not readable, or another format.
    """
    _check_readable(file)
    if file.suffix.lower() == ".json":
        return "index"
    if zipfile.is_zipfile(file):
        _refuse_other_archives(file)
        return "torch"
    with file.open("rb") as stream:
        head = stream.read(64).ljust(64, b"\0")
        stream.seek(257)
        tar = stream.read(5) == b"ustar"
    if head[8:9] == b"{":
        return "safetensors"
    _refuse_other_formats(file, head, tar=tar)
    return "torch"


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
        raise ModelError(f"{file} is empty", hint=BROKEN_HINT)


def _refuse_other_archives(file: Path) -> None:
    """Tell torch.save's zip archives from the others by what is inside."""
    with zipfile.ZipFile(file) as archive:
        # Everything lies under one top folder, whose name is of no interest.
        members = {name.partition("/")[2] for name in archive.namelist()} | set(archive.namelist())
    if "constants.pkl" in members or any(name.startswith("code/") for name in members):
        raise ModelError(
            f"{file} is a TorchScript program, whose graph is frozen: filters cannot be removed from it",
            hint=f"Use the Python model it was made from. {SAVE_HINT}",
        )
    if "archive_format" in members or any(name.startswith("serialized_exported_program") for name in members):
        raise ModelError(
            f"{file} is a torch.export program, whose graph is frozen: filters cannot be removed from it",
            hint=f"Use the Python model it was exported from. {SAVE_HINT}",
        )
    if "data.pkl" not in members:
        raise ModelError(f"{file} is a zip archive, but not one that torch.save writes", hint=SAVE_HINT)


def _refuse_other_formats(file: Path, head: bytes, *, tar: bool) -> None:
    packed = next((name for magic, name in _PACKED.items() if head.startswith(magic)), "tar archive" if tar else "")
    if packed:
        raise ModelError(f"{file} is a {packed}", hint="Unpack it first, and give the checkpoint inside.")
    # ONNX is a protobuf without a magic number: field 1 (ir_version, a small varint), then the next of its fields.
    if file.suffix.lower() == ".onnx" or (head[0] == 0x08 and head[1] < 32 and head[2] in (0x12, 0x1A, 0x3A, 0x42)):
        raise ModelError(
            f"{file} is an ONNX model, whose graph is frozen: topocompress prunes PyTorch models and writes ONNX",
            hint=f"Use the PyTorch model it was exported from. {SAVE_HINT}",
        )
    if head.startswith(b"\x89HDF"):
        raise ModelError(f"{file} is an HDF5 file (Keras?), not a PyTorch checkpoint", hint=SAVE_HINT)
    if head[4:8] == b"TFL3":
        raise ModelError(f"{file} is a TensorFlow Lite model, not a PyTorch checkpoint", hint=SAVE_HINT)
    if head.startswith(b"PK"):
        raise ModelError(f"{file} is truncated: the end of its archive is missing", hint=BROKEN_HINT)
    if head[0] != 0x80:  # every pickle of protocol 2 or later, torch.save's old format included, starts so
        if file.suffix.lower() == ".safetensors":
            raise ModelError(f"{file} is not a safetensors file, or is damaged", hint=BROKEN_HINT)
        raise ModelError(f"{file} is not a PyTorch checkpoint", hint="Accepted: .pt, .pth and .safetensors files.")
