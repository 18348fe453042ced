"""Recognising the network behind a state dict."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from topocompress.errors import ModelError
from topocompress.models.architectures import (
    BUILTIN,
    HINT,
    RGB,
    Shapes,
    check_name,
    classes_of,
    dense_names,
    of_kind,
    published_weights,
    shapes_of,
    torchvision_names,
)
from topocompress.types import Architecture

_AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
_SEGMENTATION = ("fcn_", "deeplabv3_")  # with an auxiliary head in training
_TWINS = {"fasterrcnn_mobilenet_v3_large_320_fpn": "fasterrcnn_mobilenet_v3_large_fpn"}
"""Architectures that differ in the size they bring images to, and not in their weights."""
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "relative_position_index", "relative_coords_table")
_FAMILY = re.compile("[a-z]+")
# DenseNet checkpoints from before 2018 (torchvision still serves them) write norm.1 where the module says norm1.
_OLD_DENSENET = re.compile(r"(.*denselayer\d+\.(?:norm|conv))\.([12]\..+)")


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


def infer_architecture(state: Mapping[str, Tensor]) -> Architecture:
    """Find the torchvision architecture and the class count from keys and shapes.

    Raises:
        ModelError: Nothing fits; names the nearest architecture and the first differences.
    """
    return recognise(state).architecture


def recognise(state: Mapping[str, Tensor], name: str | None = None) -> Recognised:
    """Fit a state dict to one architecture, or to whichever of the known ones fits.

    No two torchvision architectures share both keys and shapes (but for one pair, of which a note tells), so the answer
    does not depend on the order. The number of classes and the number of input channels may differ from the published
    ones.

    Args:
        state: Name to tensor, as :func:`topocompress.models.checkpoints.read_checkpoint` returns it.
        name: A torchvision name, ``digits`` or ``timm:NAME``; ``None`` tries all but those of timm.

    Raises:
        ModelError: ``name`` is unknown, or nothing fits; names the nearest architecture and the first differences.
    """
    if name is not None:
        check_name(name)
        if (found := _fit(name, state)) is None:
            raise ModelError(f"the weights do not fit {name}: {_differences(name, state)}", hint=HINT)
        return found
    dense = [known for known in dense_names() if known not in _TWINS]
    candidates = [*BUILTIN, *_by_size(state, torchvision_names()), *_by_size(state, dense)]
    for candidate in candidates:
        if _kinship(candidate, state) == 1 and (found := _fit(candidate, state)) is not None:
            twins = [f"the weights fit {twin}, too: name it with --arch if it is that" for twin in _twins(candidate)]
            return replace(found, note="; ".join(filter(None, (found.note, *twins))))
    kinships = {candidate: _kinship(candidate, state) for candidate in candidates}
    closest = max(kinships.values())
    if not closest:
        raise ModelError(
            f"the weights fit no known architecture; none has modules like those of {_listed(list(state))}", hint=HINT
        )
    kin = [candidate for candidate in candidates if kinships[candidate] == closest]
    nearest = max(kin, key=lambda known: _likeness(known, state))
    raise ModelError(
        f"the weights fit no known architecture; nearest is {nearest}: {_differences(nearest, state)}", hint=HINT
    )


def _by_size(state: Mapping[str, Tensor], names: Iterable[str]) -> list[str]:
    """Torchvision's names, those with the most similar number of parameters first, so that few need building."""
    size = sum(tensor.numel() for key, tensor in state.items() if not key.endswith(_BUFFERS))
    return sorted(names, key=lambda name: abs(math.log(_parameters(name) / max(size, 1))))


def _parameters(name: str) -> int:
    """Parameters of a torchvision network with the published classes, known without building it."""
    return int(next(iter(published_weights(name).values())).meta["num_params"])


def _twins(name: str) -> list[str]:
    return [twin for twin, known in _TWINS.items() if known == name]


def _kinship(name: str, state: Mapping[str, Tensor]) -> float:
    """Share of the top-level names, such as ``layer1`` or ``classifier``, that state dict and architecture both have.

    Costs little for many names: it is the same for all that differ only in depth or width.
    """
    family = _FAMILY.findall(name)[0]
    ours, theirs = _top_level(_keys(_normalised(name, state))), _family_top_level(family)
    return len(ours & theirs) / len(ours | theirs)


@functools.lru_cache(maxsize=64)
def _family_top_level(family: str) -> frozenset[str]:
    known = [*BUILTIN, *torchvision_names(), *dense_names()]
    members = [name for name in known if _FAMILY.findall(name)[0] == family]
    smallest = min(members, key=lambda name: 0 if name in BUILTIN else _parameters(name))
    return _top_level(_keys(_plain(smallest)))


def _top_level(keys: Iterable[str]) -> frozenset[str]:
    return frozenset(key.partition(".")[0] for key in keys)


def _plain(name: str) -> Shapes:
    """Shapes of the architecture as published."""
    return shapes_of(name, tuple(_options(name, {}).items()))


def _normalised(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    heads = ("aux_classifier.",) if name.startswith(_SEGMENTATION) else _AUXILIARY.get(name, ())
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
    """Shapes of the architecture with the options, input channels and class count that the state dict shows."""
    options = _options(name, state)
    try:
        shapes = shapes_of(name, tuple(options.items()))
    except (TypeError, ValueError):  # for example a patch size that does not divide the image size
        options, shapes = {}, shapes_of(name, ())
    first = next((key for key, shape in shapes.items() if len(shape) == 4 and shape[1] == RGB), "")
    if first in state and state[first].ndim == 4 and state[first].shape[1] not in (0, RGB):
        options["in_channels"] = state[first].shape[1]
    classes = classes_of(name)
    # The class count shows as one number in place of this one in the first axis of the head, wherever that is; in a
    # detector times the anchors of a place.
    counts = {
        tensor.shape[0] * classes / shapes[key][0]
        for key, tensor in state.items()
        if key in shapes
        and tensor.ndim
        and shapes[key]
        and shapes[key][0] % classes == 0
        and tuple(tensor.shape) != shapes[key]
    }
    if len(counts) == 1 and (count := counts.pop()).is_integer():
        options["num_classes"] = int(count)
    if "num_classes" in options or "in_channels" in options:
        shapes = shapes_of(name, tuple(options.items()))
    options.setdefault("num_classes", classes)
    return shapes, options


def _fit(name: str, original: Mapping[str, Tensor]) -> Recognised | None:
    state = _normalised(name, original)
    if _keys(state) != _keys(_plain(name)):
        return None
    shapes, options = _expected(name, state)
    if any(tuple(state[key].shape) != shapes[key] for key in _keys(shapes)):
        return None
    notes = []
    channels = options.get("in_channels", RGB)
    if channels != RGB:
        notes.append(
            f"{channels} input channel{'s' * (channels > 1)} instead of {RGB}; "
            "normalised by the mean of ImageNet's statistics unless --mean and --std are given"
        )
    if len(state) != len(original):
        notes.append("auxiliary heads dropped (only used in training)")
    if name in _AUXILIARY:
        # These weights were converted from another framework, which scaled its inputs differently; torchvision turns
        # the conversion (of three channels) on with its own weights, and nothing in a state dict tells.
        options["transform_input"] = options["num_classes"] == 1000 and channels == RGB
        if options["transform_input"]:
            notes.append("transform_input=True assumed, as for torchvision's own 1000-class weights")
        elif channels == RGB:
            notes.append("if fine-tuned from torchvision's weights, normalise with --mean 0.5 --std 0.5")
    return Recognised(architecture=of_kind(name, options), state=state, note="; ".join(notes))


def _likeness(name: str, original: Mapping[str, Tensor]) -> tuple[int, int]:
    """Order of nearness: keys in common less keys that differ, then equal shapes."""
    state = _normalised(name, original)
    shapes = _plain(name)
    ours, theirs = _keys(state), _keys(shapes)
    equal = sum(tuple(state[key].shape) == shapes[key] for key in ours & theirs)
    return len(ours & theirs) - len(ours ^ theirs), equal


def _listed(keys: Sequence[str], limit: int = 3) -> str:
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + more


def _differences(name: str, original: Mapping[str, Tensor]) -> str:
    state = _normalised(name, original)
    shapes, _ = _expected(name, state)
    missing = [key for key in shapes if key not in state and not _optional(key)]
    extra = [key for key in state if key not in shapes and not _optional(key)]
    unlike = [
        f"{key} {tuple(state[key].shape)} instead of {shapes[key]}"
        for key in shapes
        if key in state and tuple(state[key].shape) != shapes[key] and not _optional(key)
    ]
    found = {"missing": missing, "unexpected": extra, "shape of": unlike}
    parts = [f"{what} {_listed(keys)}" for what, keys in found.items() if keys]
    return "; ".join(parts) if parts else "no difference"
