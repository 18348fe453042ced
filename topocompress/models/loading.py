"""Turning what a user has - a name, a checkpoint, a factory - into a module and its preprocessing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from topocompress.errors import ModelError
from topocompress.models.architectures import build, check_name, is_known, of_kind, published_weights, torchvision_names
from topocompress.models.checkpoints import check_finite, read_checkpoint
from topocompress.models.digits import CHECKPOINT
from topocompress.models.factories import is_factory
from topocompress.models.preprocessing import (
    assumed,
    check_runs,
    default_preprocessing,
    is_own,
    overridden,
    published_preprocessing,
)
from topocompress.models.recognition import recognise
from topocompress.models.timm import construct_timm, is_timm, timm_weights
from topocompress.types import Architecture, PixelRange, Preprocessing, PruningPlan


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A network ready to be looked at.

    Attributes:
        module: In eval mode, float32, on the CPU.
        architecture: How to build it again.
        preprocessing: How an image becomes its input.
        source: The model as the user wrote it.
        note: One line worth telling the user; empty if there is none.
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
    pixel_range: PixelRange | None = None,
) -> LoadedModel:
    """Load a trained network.

    Args:
        source: A checkpoint file, a torchvision name or ``timm:NAME`` (with ``weights``), ``digits``, or
            ``pkg.module:factory``, whose call returns the network.
        arch: Architecture of a checkpoint: a torchvision name, ``timm:NAME``, ``digits`` or ``pkg.module:factory``; by
            default it is inferred from the keys and shapes, among torchvision's.
        weights: For a name or a factory: a checkpoint file; for a name also ``DEFAULT`` or another name of its
            published weights, which torchvision or timm downloads unless they are cached.
        trust_pickle: Let a checkpoint run code of its own.
        input_size: Height and width of the input in pixels; one number for both. By default that of the published
            weights, an attribute ``input_shape`` (channels, height, width) of the network or of its factory, or 224.
        num_classes: Expected class count; a factory is called with it if it is given.
        mean: Per-channel mean of the normalisation, in units of 0..1; one number serves all channels.
        std: Per-channel standard deviation, likewise.
        resize: Length of the short side in pixels before the centre crop.
        pixel_range: The numbers for black and white in images of more than 8 bits; by default decided from the images.

    Raises:
        ModelError: Not found, not readable, not recognised, holds NaN or Inf, or does not run at its input size.
    """
    text, known = str(source), False
    if isinstance(source, str) and is_known(text):
        loaded = _from_name(text, arch=arch, weights=weights, trust_pickle=trust_pickle)
        known = loaded.source != weights  # weights that were published say how images are prepared
    elif isinstance(source, str) and is_factory(text) and not Path(text).exists():
        if arch is not None:
            raise ModelError(f"--arch {arch} is given beside the factory {text}", hint="Leave out --arch.")
        loaded = _from_factory(text, weights=weights, trust_pickle=trust_pickle, num_classes=num_classes)
    else:
        _check_file(Path(source), weights)
        loaded = _from_checkpoint(text, Path(source), arch=arch, trust_pickle=trust_pickle, num_classes=num_classes)
    found = loaded.architecture.options.get("num_classes", num_classes)
    if num_classes is not None and found != num_classes:
        raise ModelError(f"{text} has {found} classes, not {num_classes}", hint="Leave out num_classes.")
    preprocessing = overridden(
        loaded.preprocessing, input_size=input_size, mean=mean, std=std, resize=resize, pixel_range=pixel_range
    )
    loaded.module.eval().float()
    check_finite(loaded.module.state_dict(), text)
    check_runs(loaded.module, preprocessing, text, own=is_own(loaded.architecture))
    set_by_user = {"input_size": input_size, "mean": mean, "std": std}
    given = [name for name, value in set_by_user.items() if value is not None]
    taken = "" if known else assumed(loaded.architecture, loaded.module, preprocessing, given=given)
    note = "; ".join(filter(None, (loaded.note, taken)))
    return replace(loaded, source=text, preprocessing=preprocessing, note=note)


def fingerprint(module: nn.Module) -> str:
    """``sha256:`` and the hex digest over names, dtypes, shapes and bytes of the state dict, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def _check_file(path: Path, weights: str | None) -> None:
    if path.is_dir():
        raise ModelError(
            f"{path} is a directory, not a checkpoint",
            hint="Give a .pt, .pth or .safetensors file, or a run directory.",
        )
    if not path.exists() and path.suffix == "" and len(path.parts) == 1:
        import difflib

        near = difflib.get_close_matches(str(path), ["digits", *torchvision_names()], n=3)
        guess = f"Did you mean {', '.join(near)}? " if near else ""
        raise ModelError(
            f"{path} is neither a file nor a known model",
            hint=f"{guess}Accepted: a file, a torchvision name, timm:NAME, digits, pkg.module:factory or a run "
            "directory.",
        )
    if weights is not None:
        raise ModelError(
            f"--weights {weights} is given beside the checkpoint {path}", hint="Use --arch to name an architecture."
        )


def _from_name(name: str, *, arch: str | None, weights: str | None, trust_pickle: bool) -> LoadedModel:
    if arch not in (None, name):
        raise ModelError(f"--arch {arch} contradicts the model {name}", hint="--arch is for checkpoints: leave it out.")
    if name == "digits" and weights is None:
        return _with_weights(read_checkpoint(CHECKPOINT), str(CHECKPOINT.name), arch=name)
    check_name(name)
    published = {} if name == "digits" else timm_weights(name) if is_timm(name) else published_weights(name)
    if weights is None:
        own = f", or --weights DEFAULT for the published ones ({', '.join(published)})" if published else ""
        raise ModelError(
            f"{name} without weights is untrained, and there is nothing to learn from what it computes",
            hint=f"Add --weights FILE{own}.",
        )
    key = weights.partition("_Weights.")[2] or weights  # torchvision's full spelling: ResNet18_Weights.DEFAULT
    if published and (key == "DEFAULT" or key in published):
        return _download_from_timm(published, key) if is_timm(name) else _download(name, key)
    if not Path(weights).exists():
        accepted = ", ".join(["a checkpoint file", *(["DEFAULT", *published] if published else [])])
        raise ModelError(f"{name} has no weights {weights!r}, and no such file exists", hint=f"Accepted: {accepted}.")
    return _with_weights(read_checkpoint(weights, trust_pickle=trust_pickle), weights, arch=name)


def _from_factory(spec: str, *, weights: str | None, trust_pickle: bool, num_classes: int | None) -> LoadedModel:
    if weights is not None:
        contents = read_checkpoint(weights, trust_pickle=trust_pickle)
        return _with_weights(contents, weights, arch=spec, num_classes=num_classes)
    architecture = of_kind(spec, {} if num_classes is None else {"num_classes": num_classes})
    module = build(architecture)
    return LoadedModel(
        module=module,
        architecture=architecture,
        preprocessing=default_preprocessing(architecture, module),
        source=spec,
        note=f"weights as {spec} returns them",
    )


def _from_checkpoint(
    text: str, path: Path, *, arch: str | None, trust_pickle: bool, num_classes: int | None
) -> LoadedModel:
    contents = read_checkpoint(path, trust_pickle=trust_pickle)
    if isinstance(contents, nn.Module) and arch is None:
        return _from_module(contents, text)
    return _with_weights(contents, text, arch=arch, num_classes=num_classes)


def _from_module(module: nn.Module, source: str) -> LoadedModel:
    """A whole module from a pickle; told by its printed form whether torchvision can build the same."""
    try:
        found = _with_weights(module.state_dict(), source, arch=None)
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
    contents: Mapping[str, Tensor] | nn.Module, where: str, *, arch: str | None, num_classes: int | None = None
) -> LoadedModel:
    state = contents.state_dict() if isinstance(contents, nn.Module) else contents
    note = ""
    if arch is not None and is_factory(arch) and not is_timm(arch):
        architecture = of_kind(arch, {} if num_classes is None else {"num_classes": num_classes})
    else:
        try:
            recognised = recognise(state, arch)
        except ModelError as error:
            raise ModelError(f"{where}: {error.what}", hint=error.hint) from error
        architecture, state, note = recognised.architecture, recognised.state, recognised.note
    module = build(architecture)
    _fill(module, state, f"{where} does not fit {architecture.name}")
    preprocessing = default_preprocessing(architecture, module)
    return LoadedModel(module=module, architecture=architecture, preprocessing=preprocessing, source=where, note=note)


def _fill(module: nn.Module, state: Mapping[str, Tensor], complaint: str) -> None:
    # Starting from the module's own dictionary keeps its version marks, which some modules (MNASNet) insist on.
    own = module.state_dict()
    if not own.keys() & state.keys() and all(f"model.{name}" in own for name in state):
        state = {f"model.{name}": tensor for name, tensor in state.items()}
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    extra = [name for name in state if name not in own]
    unlike = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    for what, names in (("missing", missing), ("unexpected", extra), ("shape of", unlike)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ModelError(
                f"{complaint}: {what} {', '.join(names[:3])}{more}", hint="Name the architecture it was saved from."
            )
    own.update(state)
    module.load_state_dict(own)


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
    loaded = _with_weights(module.state_dict(), f"{name} {member.name}", arch=name)
    note = f"torchvision weights {member.name}"
    classes = tuple(member.meta.get("categories", ()))
    return replace(loaded, preprocessing=published_preprocessing(member), note=note, classes=classes)


def _download_from_timm(published: Mapping[str, str], key: str) -> LoadedModel:
    tag = next(iter(published)) if key == "DEFAULT" else key
    name = published[tag]  # with its tag, to which the preprocessing belongs
    with torch.random.fork_rng(devices=[]):
        module = construct_timm(name, {}, pretrained=True)
    return replace(_with_weights(module.state_dict(), name, arch=name), note=f"timm weights {tag}")
