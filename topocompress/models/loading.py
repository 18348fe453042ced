"""Turning what a user has - a name, a checkpoint, a factory - into a module and its preprocessing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from topocompress.errors import ModelError
from topocompress.models.architectures import (
    build,
    check_name,
    check_options,
    is_known,
    of_kind,
    published_weights,
)
from topocompress.models.checkpoints import check_dense, check_finite, read_checkpoint
from topocompress.models.class_names import names_beside
from topocompress.models.contents import Candidate, Checkpoint, taken_note
from topocompress.models.digits import CHECKPOINT
from topocompress.models.factories import is_factory
from topocompress.models.fitting import fit
from topocompress.models.input_sizes import Ask, Images, doubt, settled_size
from topocompress.models.preprocessing import (
    assumed,
    check_runs,
    default_preprocessing,
    is_own,
    overridden,
    published_preprocessing,
)
from topocompress.models.rebuilding import check_rebuilt
from topocompress.models.sources import check_source, untrained
from topocompress.models.timm import construct_timm, is_timm, timm_weights
from topocompress.models.wrappers import unwrapped
from topocompress.types import Architecture, PixelRange, Preprocessing, PruningPlan

_Reader = Callable[[str | Path], Checkpoint]


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A network ready to be looked at.

    Attributes:
        module: In eval mode, float32, on the CPU.
        architecture: How to build it again.
        preprocessing: How an image becomes its input.
        source: The model as the user wrote it.
        note: One line worth telling the user; empty if there is none.
        doubt: What input size is assumed, why, and how to state it; empty where it is known.
        history: Plans already applied to it, oldest first.
        classes: Names of its classes, where they are known.
    """

    module: nn.Module
    architecture: Architecture
    preprocessing: Preprocessing
    source: str
    note: str = ""
    history: tuple[PruningPlan, ...] = ()
    classes: tuple[str, ...] = ()
    doubt: str = ""


def load_model(
    source: str | Path,
    *,
    arch: str | None = None,
    weights: str | None = None,
    trust_pickle: bool = False,
    input_size: int | tuple[int, int] | None = None,
    num_classes: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    resize: int | None = None,
    arch_args: Mapping[str, Any] | None = None,
    weights_key: str | None = None,
    pixel_range: PixelRange | None = None,
    images: Images | None = None,
    ask: Ask | None = None,
) -> LoadedModel:
    """Load a trained network.

    Args:
        source: A checkpoint file (or a folder with one in parts), a torchvision name or ``timm:NAME`` (with
            ``weights``), ``digits``, or ``pkg.module:factory``, whose call returns the network.
        arch: Architecture of a checkpoint: a torchvision name, ``timm:NAME``, ``digits`` or ``pkg.module:factory``; by
            default it is inferred from the keys and shapes, among torchvision's.
        weights: For a name or a factory: a checkpoint file; for a name also ``DEFAULT`` or another name of its
            published weights, which torchvision or timm downloads unless they are cached.
        trust_pickle: Let a checkpoint run code of its own.
        input_size: Height and width of the input in pixels; one number for both. By default that of the published
            weights, or an attribute ``input_shape`` (channels, height, width) of the network or of its factory; without
            one see :func:`~topocompress.models.input_sizes.settled_size`.
        num_classes: Expected class count; a factory is called with it if it is given.
        mean: Per-channel mean of the normalisation, in units of 0..1; one number serves all channels.
        std: Per-channel standard deviation, likewise.
        resize: Length of the short side in pixels before the centre crop.
        arch_args: Arguments for the factory, or for the builder of a named architecture: texts, numbers, booleans.
        weights_key: Which of several weights in a checkpoint to take, as dotted keys; by default those that would be
            deployed (EMA before raw ones), which the note then says.
        pixel_range: The numbers for black and white in images of more than 8 bits; by default decided from the images.
        images: Gives the size of the images to come, (height, width), for a network that does not state its own.
        ask: Asks for the size where nothing tells it, given (channels, height, width) of what is assumed else.

    Raises:
        ModelError: Not found, not readable, not recognised, holds NaN or Inf, or does not run at its input size.
    """
    text, given, known = str(source), dict(arch_args or {}), False
    check_options(given)
    opened: list[Checkpoint] = []

    def read(path: str | Path) -> Checkpoint:
        opened.append(read_checkpoint(path, trust_pickle=trust_pickle, weights_key=weights_key))
        return opened[-1]

    named = isinstance(source, str) and (is_known(text) or (is_factory(text) and not Path(text).exists()))
    if weights_key is not None and named and (weights is None or not Path(weights).exists()):
        raise ModelError(f"--weights-key {weights_key} is given without a file", hint="Add --weights FILE.")
    if named and is_known(text):
        loaded = _from_name(text, arch=arch, weights=weights, read=read, given=given)
        known = loaded.source != weights  # weights that were published say how images are prepared
    elif named:
        if arch is not None:
            raise ModelError(f"--arch {arch} is given beside the factory {text}", hint="Leave out --arch.")
        loaded = _from_factory(text, weights=weights, read=read, given=_counted(given, num_classes))
    else:
        check_source(text)
        if weights is not None:
            raise ModelError(
                f"--weights {weights} is given beside the checkpoint {text}",
                hint="Use --arch to name an architecture.",
            )
        if given and arch is None:
            raise ModelError(
                f"--arch-args {' '.join(given)} are given, but no architecture", hint="Name it: --arch NAME."
            )
        factory = arch is not None and is_factory(arch) and not is_timm(arch)
        given = _counted(given, num_classes) if factory else given
        loaded = _from_checkpoint(text, Path(source), arch=arch, read=read, given=given)
    found = loaded.architecture.options.get("num_classes", num_classes)
    if num_classes is not None and found != num_classes:
        raise ModelError(f"{text} has {found} classes, not {num_classes}", hint="Leave out num_classes.")
    check_dense(loaded.module.state_dict(), text)
    loaded.module.eval().float()
    check_finite(loaded.module.state_dict(), text)
    if input_size is None and not known:
        used = loaded.preprocessing
        if settled := settled_size(loaded.architecture, loaded.module, used, images=images, ask=ask):
            input_size = settled.size
            loaded = replace(loaded, doubt=doubt(settled, loaded.architecture, used.input_shape[0]))
    preprocessing = overridden(
        loaded.preprocessing, input_size=input_size, mean=mean, std=std, resize=resize, pixel_range=pixel_range
    )
    outputs = check_runs(loaded.module, preprocessing, text, own=is_own(loaded.architecture))
    check_rebuilt(loaded.module, loaded.architecture, preprocessing)
    if not loaded.classes and outputs is not None and opened:
        loaded = replace(loaded, classes=names_beside(opened[0].contents, outputs))
    set_by_user = [
        name for name, value in (("input_size", input_size), ("mean", mean), ("std", std)) if value is not None
    ]
    taken = "" if known else assumed(loaded.architecture, loaded.module, preprocessing, given=set_by_user)
    note = "; ".join(filter(None, (loaded.note, taken)))
    return replace(loaded, source=text, preprocessing=preprocessing, note=note)


def _counted(given: Mapping[str, Any], num_classes: int | None) -> dict[str, Any]:
    return {**({} if num_classes is None else {"num_classes": num_classes}), **given}


def fingerprint(module: nn.Module) -> str:
    """``sha256:`` and the hex digest over names, dtypes, shapes and bytes of the state dict, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def _from_name(
    name: str, *, arch: str | None, weights: str | None, read: _Reader, given: Mapping[str, Any]
) -> LoadedModel:
    if arch not in (None, name):
        raise ModelError(f"--arch {arch} contradicts the model {name}", hint="--arch is for checkpoints: leave it out.")
    if name == "digits" and weights is None:
        return _with_weights(read_checkpoint(CHECKPOINT), str(CHECKPOINT.name), arch=name, given=given)
    check_name(name)
    published = {} if name == "digits" else timm_weights(name) if is_timm(name) else published_weights(name)
    if weights is None:
        raise untrained(name, f"the published ones ({', '.join(published)})" if published else "")
    key = weights.partition("_Weights.")[2] or weights  # torchvision's full spelling: ResNet18_Weights.DEFAULT
    if published and (key == "DEFAULT" or key in published):
        if given:
            raise ModelError(
                f"--arch-args are given beside the published weights {weights}, which are for the network as published",
                hint="Leave them out, or give a checkpoint: --weights FILE.",
            )
        return _download_from_timm(published, key) if is_timm(name) else _download(name, key)
    if not Path(weights).exists():
        accepted = ", ".join(["a checkpoint file", *(["DEFAULT", *published] if published else [])])
        raise ModelError(f"{name} has no weights {weights!r}, and no such file exists", hint=f"Accepted: {accepted}.")
    return _with_weights(read(weights), weights, arch=name, given=given)


def _from_factory(spec: str, *, weights: str | None, read: _Reader, given: Mapping[str, Any]) -> LoadedModel:
    if weights is not None:
        return _with_weights(read(weights), weights, arch=spec, given=given)
    architecture = of_kind(spec, given)
    module = build(architecture)
    return LoadedModel(
        module=module,
        architecture=architecture,
        preprocessing=default_preprocessing(architecture, module),
        source=spec,
        note=f"weights as {spec} returns them",
    )


def _from_checkpoint(
    text: str, path: Path, *, arch: str | None, read: _Reader, given: Mapping[str, Any]
) -> LoadedModel:
    checkpoint = read(path)
    first = checkpoint.candidates[0]
    if arch is None and first.module is not None:
        check_finite(first.state, text)
        said = taken_note(first.name, [other.name for other in checkpoint.candidates[1:]], ())
        loaded = _from_module(unwrapped(first.module), text)
        return replace(loaded, note="; ".join(filter(None, (said, loaded.note))))
    return _with_weights(checkpoint, text, arch=arch, given=given)


def _from_module(module: nn.Module, source: str) -> LoadedModel:
    """A whole module from a pickle; told by its printed form whether torchvision can build the same."""
    try:
        found = _with_weights(_weights_of(module, source), source, arch=None)
    except ModelError:
        found = None
    if found is not None and repr(found.module) == repr(module.eval()):
        return found
    kind = type(module)
    architecture = Architecture(kind="object", name=f"{kind.__module__}.{kind.__qualname__}")
    return LoadedModel(
        module=module,
        architecture=architecture,
        preprocessing=default_preprocessing(architecture, module),
        source=source,
        note=f"pickled {architecture.name}: name it with --arch pkg.module:factory to load the result again",
    )


def _with_weights(
    checkpoint: Checkpoint, where: str, *, arch: str | None, given: Mapping[str, Any] | None = None
) -> LoadedModel:
    fitted = fit(checkpoint, where, arch=arch, given=given or {})
    return LoadedModel(
        module=fitted.module,
        architecture=fitted.architecture,
        preprocessing=default_preprocessing(fitted.architecture, fitted.module),
        source=where,
        note=fitted.note,
    )


def _weights_of(module: nn.Module, source: str) -> Checkpoint:
    return Checkpoint(source=source, candidates=(Candidate(name="", state=dict(module.state_dict())),))


def _download(name: str, key: str) -> LoadedModel:
    from torchvision import models

    member = models.get_model_weights(name)[key]
    try:
        with torch.random.fork_rng(devices=[]):
            module = models.get_model(name, weights=member)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong hash is a RuntimeError
        raise ModelError(
            f"cannot download the weights {name} {member.name}: {error}",
            hint=f"Download {member.url} elsewhere and give the file: --weights FILE.",
        ) from error
    loaded = _with_weights(_weights_of(module, name), f"{name} {member.name}", arch=name)
    note = f"torchvision weights {member.name}"
    classes = tuple(member.meta.get("categories", ()))
    return replace(loaded, preprocessing=published_preprocessing(member), note=note, classes=classes)


def _download_from_timm(published: Mapping[str, str], key: str) -> LoadedModel:
    tag = next(iter(published)) if key == "DEFAULT" else key
    name = published[tag]  # with its tag, to which the preprocessing belongs
    with torch.random.fork_rng(devices=[]):
        module = construct_timm(name, {}, pretrained=True)
    return replace(_with_weights(_weights_of(module, name), name, arch=name), note=f"timm weights {tag}")
