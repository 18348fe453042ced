"""Run directories: a pruned model saved and loaded without pickle.

``plan.json`` says how to build the network again (architecture, then every plan in order, with what becomes of each
layer, then the topological activations) and carries the SHA-256 of the files beside it and of itself, so that a wrong
or edited file is noticed. That guards against accidents; it is no signature. Nothing named in the file is imported: a
network from the user's own factory needs that factory at load time, and its arguments: those that the file names never
reach a callable. One of timm's needs timm.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import nn

from topocompress.errors import ArtifactError, ModelError, PlanError
from topocompress.models.architecture_options import MOST_CLASSES
from topocompress.models.architectures import build, check_options
from topocompress.models.loading import LoadedModel, fingerprint
from topocompress.models.wrappers import unwrapped
from topocompress.network.copying import copied
from topocompress.network.inputs import take_several
from topocompress.runtime.files import atomic_directory
from topocompress.runtime.json_files import read_json
from topocompress.runtime.outputs import FORMAT, MANIFEST, MANIFEST_BYTES
from topocompress.surgery.activations import Wave, describe_waves, restore_waves
from topocompress.surgery.removal import replay
from topocompress.types import Architecture, Preprocessing, PruningPlan

VERSION = 2
WEIGHTS = "model.safetensors"

Factory = Callable[..., nn.Module]


_MOST_PLANS = 1_000
_NETWORK = "model.*"
"""The files that hold the network."""
_Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False, str_max_length=10_000))
class _Manifest:
    """What ``plan.json`` says; every value is checked when it is read."""

    format: str
    version: int
    architecture: Architecture
    preprocessing: Preprocessing
    plans: Annotated[tuple[PruningPlan, ...], Field(max_length=_MOST_PLANS)]
    model: _Digest
    files: Annotated[dict[str, str], Field(max_length=100)]
    fingerprint: _Digest
    classes: Annotated[tuple[str, ...], Field(max_length=MOST_CLASSES)] = ()
    activations: Annotated[tuple[Wave, ...], Field(max_length=10_000)] = ()


_MANIFEST = TypeAdapter(_Manifest)


def save(
    path: str | os.PathLike[str],
    model: nn.Module,
    *,
    plans: Sequence[PruningPlan],
    preprocessing: Preprocessing,
    architecture: Architecture | None = None,
    classes: Sequence[str] = (),
    force: bool = False,
) -> None:
    """Write a pruned model as a run directory, all of it or nothing.

    Args:
        path: The directory to create.
        model: The network after all plans.
        plans: The plans applied to the original architecture, in order.
        preprocessing: The model's input shape and normalisation.
        architecture: How to build the unpruned network; ``None`` if only your own code can (``load`` then wants it).
        classes: Names of the classes, for whoever serves the model; may be left out.
        force: Replace an existing directory.

    Raises:
        OutputError: The place is taken or cannot be written.
    """
    with atomic_directory(path, force=force) as staging:
        write_run(staging, model, plans=plans, preprocessing=preprocessing, architecture=architecture, classes=classes)


def write_run(
    directory: Path,
    model: nn.Module,
    *,
    plans: Sequence[PruningPlan],
    preprocessing: Preprocessing,
    architecture: Architecture | None = None,
    classes: Sequence[str] = (),
) -> None:
    """Write ``model.safetensors`` and ``plan.json`` into a directory; other files of the network are fingerprinted.

    Reports are not: they hold times, and ``plan.json`` follows from what was asked alone.
    """
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    (directory / WEIGHTS).write_bytes(safetensors_bytes(state))
    own = Architecture(kind="object", name=f"{type(model).__module__}:{type(model).__qualname__}")
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "architecture": dataclasses.asdict(architecture or own),
        "preprocessing": {
            key: value for key, value in dataclasses.asdict(preprocessing).items() if key != "inputs" or value
        },
        **({"classes": list(classes)} if classes else {}),
        "plans": [_entry(plan) for plan in plans],
        **({"activations": [_given(wave) for wave in waves]} if (waves := describe_waves(model)) else {}),
        "model": fingerprint(model),
        "files": {file.name: _digest(file) for file in sorted(directory.glob(_NETWORK))},
    }
    manifest["fingerprint"] = _own_digest(manifest)
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def load(
    path: str | os.PathLike[str], *, arch: str | Factory | None = None, arch_args: Mapping[str, Any] | None = None
) -> nn.Module:
    """Rebuild the pruned network of a run directory, in eval mode; its outputs are those of the saved one, bit for bit.

    Args:
        path: The run directory.
        arch: The factory of the *unpruned* network, as ``pkg.module:callable`` or a callable. Needed, and used, only
            where the network is not one that topocompress builds itself.
        arch_args: What the factory is called with. The arguments that the run keeps are only held against these:
            what a file says is never passed to a callable.

    Raises:
        ArtifactError: A file is missing, was edited, or does not fit, or ``arch`` or ``arch_args`` are needed.
    """
    return load_run(path, arch=arch, arch_args=arch_args).module


def load_run(
    path: str | os.PathLike[str], *, arch: str | Factory | None = None, arch_args: Mapping[str, Any] | None = None
) -> LoadedModel:
    """Like :func:`load`, with what is needed to prune the network again."""
    directory = Path(path)
    manifest = _read_manifest(directory)
    module, architecture = _original(manifest.architecture, arch, dict(arch_args or {}), directory)
    take_several(module, manifest.preprocessing.inputs)
    example = torch.zeros(1, *manifest.preprocessing.input_shape)
    for plan in manifest.plans:
        module = replay(module, plan, example=example)  # the weights come last
    try:
        restore_waves(module, manifest.activations)
    except ModelError as error:
        raise ArtifactError(f"{directory / MANIFEST}: its activations do not fit the network: {error.what}") from error
    try:
        own, stored = module.state_dict(), load_file(directory / WEIGHTS)
        if own.keys() == stored.keys():  # own has version marks, which some modules (MNASNet) insist on
            own.update(stored)
            stored = own
        module.load_state_dict(stored)
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ArtifactError(
            f"{directory / WEIGHTS} does not fit the network that {MANIFEST} describes: {str(error).splitlines()[0]}",
            hint="The two files come from different runs, or the architecture has changed since.",
        ) from error
    if fingerprint(module) != manifest.model:
        raise ArtifactError(f"{directory / WEIGHTS} holds other weights than {MANIFEST} says")
    return LoadedModel(
        module=module.eval(),
        architecture=architecture,
        preprocessing=manifest.preprocessing,
        source=str(path),
        history=manifest.plans,
        classes=manifest.classes,
    )


def _original(
    architecture: Architecture, arch: str | Factory | None, given: Mapping[str, Any], directory: Path
) -> tuple[nn.Module, Architecture]:
    if architecture.kind in ("torchvision", "timm", "builtin"):
        if given:
            raise ArtifactError(
                f"arguments are given beside the run directory {directory}, which says itself how its network is built",
                hint="Leave them out.",
            )
        return build(architecture), architecture
    if arch is None:  # importing what a file names would let the file run code
        raise ArtifactError(
            f"{directory} holds a network of your own ({architecture.name}), which only your code can build",
            hint="Name the factory that you know it by: --arch pkg.module:factory, or load(path, arch=factory).",
        )
    bound = callable(arch) and not given  # a callable may hold its arguments itself
    if not bound and given != architecture.options:
        said = ", ".join(f"{name}={value!r}"[:80] for name, value in architecture.options.items()) or "none"
        raise ArtifactError(
            f"the network of {directory} was made with arguments of its factory, which are not those given: {said}",
            hint="What a file says is not passed on: give them yourself, --arch-args NAME=VALUE or arch_args={...}.",
        )
    if isinstance(arch, str):
        named = Architecture(kind="factory", name=arch, options=given)
        return build(named), named
    return copied(unwrapped(arch(**given))), architecture  # it may give the same network every time


def _read_manifest(directory: Path) -> _Manifest:
    if not directory.is_dir():
        raise ArtifactError(f"{directory} is not a directory", hint="Name a directory that topocompress wrote.")
    file = directory / MANIFEST
    if not file.is_file():
        raise ArtifactError(f"{directory} has no {MANIFEST}", hint="Name a directory that topocompress wrote.")
    try:
        manifest = read_json(file, most=MANIFEST_BYTES)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file} cannot be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ArtifactError(f"{file} was not written by topocompress")
    if manifest.get("version") != VERSION:
        raise ArtifactError(
            f"{file} has format version {manifest.get('version')}, this topocompress reads {VERSION}",
            hint="Load it with the version of topocompress that wrote it.",
        )
    if isinstance(plans := manifest.get("plans"), list) and len(plans) > _MOST_PLANS:
        raise ArtifactError(f"{file} has more than {_MOST_PLANS} plans", hint="Name another directory.")
    if manifest.get("fingerprint") != _own_digest(manifest):
        raise ArtifactError(f"{file} was edited: its fingerprint does not match", hint="Restore it or run again.")
    found = _checked(manifest, file)
    for name, digest in found.files.items():
        if name in (".", "..") or Path(name).name != name:
            raise ArtifactError(f"{file} names a file outside the run directory: {name!r}")
        if not os.path.isfile(directory / name):  # noqa: PTH113 - is_file raises for names that are too long
            raise ArtifactError(f"{directory / name} is missing", hint="Restore it or run again.")
        if _digest(directory / name) != digest:
            raise ArtifactError(
                f"{directory / name} is not the file of this run: its fingerprint does not match",
                hint="Restore it or run again.",
            )
    return found


def _checked(manifest: Mapping[str, Any], file: Path) -> _Manifest:
    """A run description whose every value is of its type and within its bounds."""
    try:
        content = copy.deepcopy(manifest)
        written = [[group.pop("kept") for group in plan["groups"]] for plan in content["plans"]]
        found = _MANIFEST.validate_json(json.dumps(content), strict=True)
        check_options(found.architecture.options)
        for plan, counts in zip(found.plans, written, strict=True):
            for group, kept in zip(plan.groups, counts, strict=True):
                if group.kept != kept:
                    raise PlanError(f"{group.root} keeps {group.kept} channels, not {kept}")
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{file} is not a valid run description: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"{file} is not a valid run description: {where}: {first['msg']}") from error
    except (PlanError, ModelError) as error:
        raise ArtifactError(f"{file} is not a valid run description: {error.what}") from error
    return found


def _given(wave: Wave) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(wave).items() if value is not None}


def _entry(plan: PruningPlan) -> dict[str, Any]:
    """A plan for ``plan.json``: its fields, and what a reader would have to compute from them."""
    groups = [{**dataclasses.asdict(group), "kept": group.kept} for group in plan.groups]
    return {**dataclasses.asdict(plan), "groups": groups}


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def _own_digest(manifest: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != "fingerprint"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"
