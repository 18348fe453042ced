"""Reading checkpoint files that may come from anywhere: no code of theirs runs unless the user says so."""

from __future__ import annotations

import contextlib
import os
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from topocompress.errors import ModelError
from topocompress.models.factories import current_directory_importable

_NESTED = ("state_dict", "model_state_dict", "model", "net", "module", "weights")
_PREFIXES = ("module.", "_orig_mod.", "model.")  # DataParallel, torch.compile, Lightning
_SAVE_HINT = "Save the weights instead: torch.save(model.state_dict(), 'model.pt')."
_BROKEN_HINT = "Copy or download it again, and compare the sizes."


def read_checkpoint(path: str | os.PathLike[str], *, trust_pickle: bool = False) -> dict[str, Tensor] | nn.Module:
    """Read a state dict from a .safetensors, .pt or .pth file; the format is told by the content.

    State dicts nested under ``state_dict``, ``model`` and the like are found; the prefixes that DataParallel,
    ``torch.compile`` and Lightning put before every key are stripped.

    Args:
        path: The file.
        trust_pickle: Let the file run code of its own, which a pickled module needs.

    Returns:
        Name to tensor, on the CPU, all finite; a module only with ``trust_pickle``, if the file holds a whole one.

    Raises:
        ModelError: Missing, empty, truncated, another format, pickled without ``trust_pickle``, or NaN or Inf inside.
    """
    file = Path(path)
    _check_readable(file)
    with file.open("rb") as stream:
        head = stream.read(64).ljust(64, b"\0")
    if zipfile.is_zipfile(file):
        _refuse_other_archives(file)
    elif head[8:9] == b"{":
        return _as_state_dict(_read_safetensors(file), file)
    else:
        _refuse_other_formats(file, head)
    loaded = _read_torch(file, trust_pickle=trust_pickle)
    if isinstance(loaded, nn.Module):
        check_finite(loaded.state_dict(), str(file))
        return loaded
    return _as_state_dict(loaded, file)


def check_finite(state: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights that hold NaN or Inf.

    Raises:
        ModelError: Names the first such tensor.
    """
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
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


def _refuse_other_formats(file: Path, head: bytes) -> None:
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


def _read_torch(file: Path, *, trust_pickle: bool) -> Any:
    if trust_pickle:
        try:
            with current_directory_importable():
                return torch.load(file, weights_only=False, map_location="cpu")
        except Exception as error:  # unpickling runs the file's own code, which may raise anything
            raise ModelError(
                f"cannot load {file}: {type(error).__name__}: {error}",
                hint="Run where the classes it was saved from can be imported; otherwise the file may be truncated.",
            ) from error
    try:
        return torch.load(file, weights_only=True, map_location="cpu")
    except Exception as error:  # a damaged file makes the reader raise nearly anything (KeyError, EOFError, ...)
        foreign = _foreign_classes(file)
        if not foreign:
            raise ModelError(
                f"{file} is not a PyTorch checkpoint, or is truncated ({type(error).__name__})", hint=_BROKEN_HINT
            ) from error
        kind = "a whole pickled module" if any(_is_layer(name) for name in foreign) else "pickled Python objects"
        raise ModelError(
            f"{file} holds {kind} ({', '.join(foreign[:3])}); loading it would run code from the file",
            hint=f"{_SAVE_HINT} If you trust who made the file, add --trust-pickle.",
        ) from error


def _is_layer(name: str) -> bool:
    return name.startswith(("torch.nn.modules.", "torchvision.models."))


def _foreign_classes(file: Path) -> list[str]:
    """Names of the classes that the pickle asks for and a state dict does not need; nothing is executed."""
    names: dict[str, None] = {}
    with contextlib.suppress(OSError, ValueError, zipfile.BadZipFile, EOFError):
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                member = next(name for name in archive.namelist() if name.endswith("data.pkl"))
                data = archive.read(member)
        else:
            data = file.read_bytes()
        names.update(dict.fromkeys(_globals_in(data)))
    return [name for name in names if not _is_data(name)]


def _is_data(name: str) -> bool:
    """Whether a class may stand in a state dict: ordered dictionaries and torch's own tensors and storages."""
    code = ("torch.nn.modules.", "torch.fx.", "torch.jit.")
    return name == "collections.OrderedDict" or (name.startswith("torch.") and not name.startswith(code))


def _globals_in(data: bytes) -> Iterator[str]:
    position = 0
    strings: list[str] = []
    # torch.save's old format is several pickles one after the other.
    while position < len(data) and data[position] == 0x80:
        for opcode, argument, at in pickletools.genops(data[position:]):
            if isinstance(argument, str):
                if opcode.name == "GLOBAL":
                    yield argument.replace(" ", ".")
                strings.append(argument)
            elif opcode.name == "STACK_GLOBAL" and len(strings) >= 2:
                yield ".".join(strings[-2:])
            elif opcode.name == "STOP":
                position += (at or 0) + 1
                break
        else:
            return


def _as_state_dict(loaded: Any, file: Path) -> dict[str, Tensor]:
    found = _find_state_dict(loaded)
    if not found:
        what = f"a {type(loaded).__name__}"
        if isinstance(loaded, Mapping):
            what += f" with the keys {', '.join(map(repr, list(loaded)[:5]))}" if loaded else " without entries"
        raise ModelError(f"{file} holds no weights: {what}", hint=_SAVE_HINT)
    for name, tensor in found.items():
        if tensor.is_quantized or tensor.is_sparse:
            kind = "quantised" if tensor.is_quantized else "sparse"
            raise ModelError(
                f"{file}: {name} is a {kind} tensor, which cannot be pruned", hint="Use the float32 weights."
            )
    check_finite(found, str(file))
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found


def _find_state_dict(loaded: Any, depth: int = 0) -> dict[str, Tensor]:
    if isinstance(loaded, nn.Module):
        return dict(loaded.state_dict())
    if not isinstance(loaded, Mapping) or depth > 3:
        return {}
    for key in _NESTED:
        if key in loaded and (inner := _find_state_dict(loaded[key], depth + 1)):
            return inner
    # Counters and settings beside the tensors are common and carry no weights.
    return {str(name): value.detach() for name, value in loaded.items() if isinstance(value, Tensor)}
