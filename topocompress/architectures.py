"""Recognising the network behind a state dict, and building networks by name."""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from topocompress.digits import DigitsNet
from topocompress.errors import ModelError
from topocompress.factories import call_factory, is_factory
from topocompress.types import Architecture

_BUILTIN = {"digits": DigitsNet}
_AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
_HINT = "Name the architecture: --arch NAME (torchvision) or --arch pkg.module:factory (your own)."
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "relative_position_index", "relative_coords_table")
# DenseNet checkpoints from before 2018 (torchvision still serves them) write norm.1 where the module says norm1.
_OLD_DENSENET = re.compile(r"(.*denselayer\d+\.(?:norm|conv))\.([12]\..+)")

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """A state dict with the architecture it fits.

    Attributes:
        architecture: What :func:`build` needs.
        state: The weights under the architecture's own key names, auxiliary heads dropped.
        note: One line worth telling the user; empty if there is none.
    """

    architecture: Architecture
    state: Mapping[str, Tensor]
    note: str = ""


class _WithoutMemory(TorchFunctionMode):
    """Put parameters, which layers create with ``torch.empty``, on the meta device.

    All else stays real, since some builders (RegNet) compute their widths with tensors.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        if func is torch.empty:
            options["device"] = "meta"
        return func(*args, **options)


def torchvision_names() -> list[str]:
    """Names of torchvision's classification architectures, sorted."""
    from torchvision import models

    return sorted(models.list_models(module=models))


def infer_architecture(state: Mapping[str, Tensor]) -> Architecture:
    """Find the torchvision classification architecture and the class count from keys and shapes.

    Raises:
        ModelError: Nothing fits; names the nearest architecture and the first differences.
    """
    return recognise(state).architecture


def recognise(state: Mapping[str, Tensor], name: str | None = None) -> Recognised:
    """Fit a state dict to one architecture, or to whichever of the known ones fits.

    No two torchvision architectures share both keys and shapes, so the answer does not depend on the order.

    Args:
        state: Name to tensor, as :func:`topocompress.checkpoints.read_checkpoint` returns it.
        name: A torchvision name or ``digits``; ``None`` tries all of them.

    Raises:
        ModelError: ``name`` is unknown, or nothing fits; names the nearest architecture and the first differences.
    """
    if name is not None:
        _check_name(name)
        if (found := _fit(name, state)) is None:
            raise ModelError(f"the weights do not fit {name}: {_differences(name, state)}", hint=_HINT)
        return found
    for candidate in [*_BUILTIN, *_by_size(state)]:
        if (found := _fit(candidate, state)) is not None:
            return found
    nearest = max(torchvision_names(), key=lambda known: _likeness(known, state))
    raise ModelError(
        f"the weights fit no known architecture; nearest is {nearest}: {_differences(nearest, state)}", hint=_HINT
    )


def build(architecture: Architecture) -> nn.Module:
    """Build a network in eval mode, with untrained weights. The caller's random state is left as it was.

    Raises:
        ModelError: The name is unknown, the options do not fit, or the factory fails.
    """
    kind, name, options = architecture.kind, architecture.name, dict(architecture.options)
    if kind == "object":
        raise ModelError(f"{name} is the caller's own module, which only the caller can build", hint=_HINT)
    with torch.random.fork_rng(devices=[]):
        if kind == "factory":
            module = call_factory(name, ModelError, **options)
            if not isinstance(module, nn.Module):
                raise ModelError(
                    f"{name} returned {type(module).__name__}, not a torch.nn.Module",
                    hint="The factory must return the network itself.",
                )
            return module.eval()
        _check_name(name)
        try:
            return _construct(name, options).eval()
        except (TypeError, ValueError) as error:
            raise ModelError(f"cannot build {name} with {options}: {error}", hint="Check its options.") from error


def is_known(name: str) -> bool:
    """Whether ``name`` is a torchvision classification architecture or one shipped with topocompress."""
    return name in _BUILTIN or name in torchvision_names()


def of_kind(name: str, options: Mapping[str, Any]) -> Architecture:
    """An :class:`Architecture` whose kind follows from the form of ``name``."""
    if is_factory(name):
        return Architecture(kind="factory", name=name, options=options)
    return Architecture(kind="builtin" if name in _BUILTIN else "torchvision", name=name, options=options)


def _check_name(name: str) -> None:
    if is_known(name):
        return
    known = [*_BUILTIN, *torchvision_names()]
    near = difflib.get_close_matches(name, known, n=3) or difflib.get_close_matches(name.lower(), known, n=3)
    guess = f"Did you mean {', '.join(near)}? " if near else ""
    raise ModelError(
        f"unknown architecture {name!r}",
        hint=f"{guess}Accepted: digits, a torchvision classification model, or pkg.module:factory.",
    )


def _construct(name: str, options: Mapping[str, Any]) -> nn.Module:
    if name in _BUILTIN:
        return _BUILTIN[name](**options)
    from torchvision import models

    extra = {"init_weights": False} if name in _AUXILIARY else {}  # avoids a slow start and a warning about it
    module: nn.Module = models.get_model(name, weights=None, **{**extra, **options})
    return module


@functools.lru_cache(maxsize=256)
def _shapes(name: str, options: tuple[tuple[str, Any], ...]) -> Shapes:
    with torch.random.fork_rng(devices=[]), _WithoutMemory():
        module = _construct(name, dict(options))
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def _by_size(state: Mapping[str, Tensor]) -> list[str]:
    """Torchvision's names, those with the most similar number of parameters first, so that few need building."""
    from torchvision import models

    size = sum(tensor.numel() for key, tensor in state.items() if not key.endswith(_BUFFERS))

    def distance(name: str) -> float:
        counts = [weights.meta["num_params"] for weights in models.get_model_weights(name)]
        return min((abs(math.log(count / max(size, 1))) for count in counts), default=math.inf)

    return sorted(torchvision_names(), key=distance)


def _normalised(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    heads = _AUXILIARY.get(name, ())
    if name.startswith("densenet"):
        return {_OLD_DENSENET.sub(r"\1\2", key): tensor for key, tensor in state.items()}
    return {key: tensor for key, tensor in state.items() if not (heads and key.startswith(heads))}


def _options(name: str, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options other than the class count that the shapes give away."""
    if name in _AUXILIARY:
        return {"aux_logits": False}
    positions, patches = state.get("encoder.pos_embedding"), state.get("conv_proj.weight")
    if name.startswith("vit_") and positions is not None and patches is not None and positions.ndim == 3:
        side = math.isqrt(max(positions.shape[1] - 1, 0))
        size = side * patches.shape[-1]
        if side and size != 224 and side * side == positions.shape[1] - 1:
            return {"image_size": size}
    return {}


def _optional(key: str) -> bool:
    return key.endswith("num_batches_tracked")  # a counter; checkpoints from before torch 0.4.1 lack it


def _keys(shapes: Mapping[str, Any]) -> set[str]:
    return {key for key in shapes if not _optional(key)}


def _expected(name: str, state: Mapping[str, Tensor]) -> tuple[Shapes, dict[str, Any]]:
    """Shapes of the architecture with the options and the class count that the state dict shows."""
    options = {} if name in _BUILTIN else _options(name, state)
    try:
        shapes = _shapes(name, tuple(options.items()))
    except (TypeError, ValueError):  # for example a patch size that does not divide the image size
        options, shapes = {}, _shapes(name, ())
    classes = 10 if name in _BUILTIN else 1000
    # The class count shows as one number in place of 1000 in the first axis of the head, wherever that is.
    counts = {
        tensor.shape[0]
        for key, tensor in state.items()
        if key in shapes and tensor.ndim and shapes[key][:1] == (classes,) and tuple(tensor.shape) != shapes[key]
    }
    if len(counts) == 1:
        classes = counts.pop()
        options["num_classes"] = classes
        return _shapes(name, tuple(options.items())), options
    return shapes, {**options, "num_classes": classes}


def _fit(name: str, original: Mapping[str, Tensor]) -> Recognised | None:
    state = _normalised(name, original)
    plain = _shapes(name, tuple(({} if name in _BUILTIN else _options(name, {})).items()))
    if _keys(state) != _keys(plain):
        return None
    shapes, options = _expected(name, state)
    if any(tuple(state[key].shape) != shapes[key] for key in _keys(shapes)):
        return None
    note = ""
    if name in _AUXILIARY:
        if len(state) != len(original):
            note = "auxiliary heads dropped (only used in training)"
        # These weights were converted from another framework, which scaled its inputs differently; torchvision turns
        # the conversion on with its own weights, and nothing in a state dict tells.
        options["transform_input"] = options["num_classes"] == 1000
        hint = (
            "transform_input=True assumed, as for torchvision's own 1000-class weights"
            if options["transform_input"]
            else "if fine-tuned from torchvision's weights, normalise with --mean 0.5 --std 0.5"
        )
        note = f"{note}; {hint}" if note else hint
    return Recognised(architecture=of_kind(name, options), state=state, note=note)


def _likeness(name: str, original: Mapping[str, Tensor]) -> tuple[int, int]:
    """Order of nearness: keys in common less keys that differ, then equal shapes."""
    state = _normalised(name, original)
    shapes, _ = _expected(name, state)
    ours, theirs = _keys(state), _keys(shapes)
    equal = sum(tuple(state[key].shape) == shapes[key] for key in ours & theirs)
    return len(ours & theirs) - len(ours ^ theirs), equal


def _differences(name: str, original: Mapping[str, Tensor], limit: int = 3) -> str:
    state = _normalised(name, original)
    shapes, _ = _expected(name, state)

    def listed(what: str, keys: list[str]) -> list[str]:
        more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
        return [f"{what} {', '.join(keys[:limit])}{more}"] if keys else []

    missing = [key for key in shapes if key not in state and not _optional(key)]
    extra = [key for key in state if key not in shapes and not _optional(key)]
    unlike = [
        f"{key} {tuple(state[key].shape)} instead of {shapes[key]}"
        for key in shapes
        if key in state and tuple(state[key].shape) != shapes[key] and not _optional(key)
    ]
    parts = [*listed("missing", missing), *listed("unexpected", extra), *listed("shape of", unlike)]
    return "; ".join(parts) if parts else "no difference"
