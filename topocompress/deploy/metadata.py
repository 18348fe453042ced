"""What an ONNX file says to whoever serves it: how its inputs are prepared and what its outputs are called.

Each entry is one of the file's metadata properties, called ``topocompress.NAME``, and its value is JSON. Files come
from anywhere: what is read is bounded and of the type that it must be, and no other file is opened for it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import onnx
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

import topocompress
from topocompress.errors import ArtifactError, ExportError, ModelError
from topocompress.models.architecture_options import MOST_CLASSES
from topocompress.runtime.borders import border
from topocompress.runtime.files import atomic_file
from topocompress.runtime.json_files import check_regular, parse_json
from topocompress.types import Preprocessing

PREFIX = "topocompress."
FORMAT = 1

_MOST_BYTES = 2**24
"""Of all entries together; 1,000 names of classes take some 20 kB."""
_LARGEST_FILE = 2**31 - 1
"""Bytes of a message of protobuf."""
_PREPARING = ("input_shape", "resize", "interpolation", "mean", "std", "pixel_range")
_CHANNEL_ORDER = {1: "L", 3: "RGB"}
_SCALE = [0.0, 1.0]
_HINT = "Take the file from the run again."


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False, str_max_length=10_000))
class Metadata:
    """What a file says.

    Attributes:
        model: Fingerprint of the network that the file was made from, as ``plan.json`` has it.
        preprocessing: How an image becomes an input; ``None`` where inputs are no images of one or three channels.
        classes: Names of the outputs in their order; empty where they are not known.
        version: Of the topocompress that wrote it.
    """

    model: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    preprocessing: Preprocessing | None = None
    classes: Annotated[tuple[str, ...], Field(max_length=MOST_CLASSES)] = ()
    version: Annotated[str, Field(max_length=100)] = topocompress.__version__


_METADATA = TypeAdapter(Metadata)


def metadata_of(model: str, preprocessing: Preprocessing, classes: tuple[str, ...] = ()) -> Metadata:
    """What there is to say of a network with this fingerprint, these inputs and these classes."""
    return Metadata(model=model, preprocessing=preprocessing if _of_images(preprocessing) else None, classes=classes)


def write_metadata(path: str | os.PathLike[str], metadata: Metadata) -> None:
    """Give an ONNX file its entries, in place of those it has; what it computes stays as it is.

    Args:
        path: The file. It is replaced as a whole or not at all.
        metadata: What to say.

    Raises:
        ArtifactError: The file cannot be read.
        ExportError: The entries do not fit in it.
        OutputError: It cannot be written.
    """
    file, entries = Path(path), _entries(metadata)
    proto = _load(file)
    if (size := _bytes(entries)) > _MOST_BYTES or proto.ByteSize() + size > _LARGEST_FILE:
        raise ExportError(
            f"the names of the classes take {size / 1e6:.1f} MB, more than fits in {file.name}",
            hint="Give shorter names with --classes.",
        )
    others = {entry.key: entry.value for entry in proto.metadata_props if not entry.key.startswith(PREFIX)}
    onnx.helper.set_model_props(proto, {**others, **entries})
    with atomic_file(file) as temporary:
        onnx.save(proto, temporary)


def read_metadata(path: str | os.PathLike[str]) -> Metadata:
    """What an ONNX file says, every value checked.

    Args:
        path: The file, wherever it comes from.

    Raises:
        ArtifactError: It cannot be read, was not written by topocompress, or says what cannot be.
    """
    file = Path(path)
    entries = [entry for entry in _load(file).metadata_props if entry.key.startswith(PREFIX)]
    named = {entry.key.removeprefix(PREFIX): entry.value for entry in entries}
    if "format" not in named:
        raise ArtifactError(
            f"{file} does not say how its inputs are prepared", hint="Name an ONNX file of a topocompress run."
        )
    if named["format"] != str(FORMAT):
        raise ArtifactError(
            f"{file} has metadata of format {named['format'][:20]!r}, this topocompress reads {FORMAT}",
            hint="Read it with the version of topocompress that wrote it.",
        )
    try:
        if len(named) < len(entries):
            raise ValueError("an entry stands there twice")
        if _bytes(named) > _MOST_BYTES:
            raise ValueError(f"they have more than {_MOST_BYTES / 1e6:.0f} MB")
        return _checked({name: parse_json(value) for name, value in named.items()})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"the metadata of {file} are not valid: {where}: {first['msg']}", hint=_HINT) from error
    except (ModelError, ValueError) as error:
        why = error.what if isinstance(error, ModelError) else str(error)
        raise ArtifactError(f"the metadata of {file} are not valid: {why}", hint=_HINT) from error


def _entries(metadata: Metadata) -> dict[str, str]:
    """Property → its value in JSON."""
    said: dict[str, Any] = {"format": FORMAT, "version": metadata.version, "model": metadata.model}
    if (images := metadata.preprocessing) is not None:
        fields = dataclasses.asdict(images)
        said |= {name: fields[name] for name in _PREPARING}
        said |= _follows(images)
    if metadata.classes:
        said["classes"] = metadata.classes
    return {f"{PREFIX}{name}": json.dumps(value) for name, value in said.items()}


def _of_images(preprocessing: Preprocessing) -> bool:
    """Whether an input is made from an image, grey or of three colours, as the rest says."""
    channels = preprocessing.input_shape[0]
    fits = channels in _CHANNEL_ORDER and len(preprocessing.mean) == len(preprocessing.std) == channels
    return fits and preprocessing.is_image and not preprocessing.inputs


def _follows(images: Preprocessing) -> dict[str, Any]:
    """What follows from the rest; it is there for readers that know nothing of topocompress."""
    return {"channel_order": _CHANNEL_ORDER.get(images.input_shape[0]), "scale": _SCALE}


def _checked(said: Mapping[str, Any]) -> Metadata:
    """Entries whose every value is of its type and within its bounds, by name."""
    rest = {name: value for name, value in said.items() if name != "format"}
    fields = {name: rest.pop(name) for name in _PREPARING if name in rest}
    follows = {name: rest.pop(name) for name in ("channel_order", "scale") if name in rest}
    if fields and (missing := [name for name in _PREPARING if name not in fields]):
        raise ValueError(f"{missing[0]} is missing")
    found = _METADATA.validate_json(json.dumps({**rest, **({"preprocessing": fields} if fields else {})}), strict=True)
    images = found.preprocessing
    if follows != ({} if images is None else _follows(images)):
        raise ValueError("channel_order and scale do not follow from the rest")
    if images is not None and not _of_images(images):
        raise ValueError("mean and std are not those of so many channels")
    return found


def _bytes(entries: Mapping[str, str]) -> int:
    return sum(len(name.encode()) + len(value.encode()) for name, value in entries.items())


def _load(file: Path) -> onnx.ModelProto:
    """An ONNX file without what other files hold."""
    with border(lambda why: ArtifactError(f"{file} cannot be read: {why}", hint="Name an ONNX file.")):
        check_regular(file)
        return onnx.load(file, load_external_data=False)
