"""Recognising the network behind a state dict."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from topocompress.errors import ModelError
from topocompress.models.architecture_options import MOST_CLASSES
from topocompress.models.architectures import (
    BUILTIN,
    HINT,
    RGB,
    Shapes,
    check_name,
    classes_of,
    dense_names,
    of_kind,
    shapes_of,
    torchvision_names,
)
from topocompress.models.families import AUXILIARY, keys_of, parameters, top_level_of
from topocompress.models.keys import View, differences, listed, unwrapped, view_note, views
from topocompress.types import Architecture
from topocompress.types.networks import MOST_CHANNELS

_SEGMENTATION = ("fcn_", "deeplabv3_")  # with an auxiliary head in training
_TWINS = {"fasterrcnn_mobilenet_v3_large_320_fpn": "fasterrcnn_mobilenet_v3_large_fpn"}
"""Architectures that differ in the size they bring images to, and not in their weights."""
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "relative_position_index", "relative_coords_table")
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


def recognise(
    state: Mapping[str, Tensor], name: str | None = None, given: Mapping[str, Any] | None = None
) -> Recognised:
    """Fit a state dict to one architecture, or to whichever of the known ones fits.

    No two torchvision architectures share both keys and shapes (but for one pair, of which a note tells), so the answer
    does not depend on the order. The number of classes and the number of input channels may differ from the published
    ones. Prefixes of wrappers are found, and the tensors that no module has are listed in the note.

    Args:
        state: Name to tensor, as a file has it.
        name: A torchvision name, ``digits`` or ``timm:NAME``; ``None`` tries all but those of timm.
        given: Options of the builder that are known; for ``name`` only.

    Raises:
        ModelError: ``name`` is unknown, or nothing fits; names the nearest architecture and the first differences.
    """
    if name is not None:
        check_name(name)
        try:
            found = _fit(name, state, given or {})
        except (TypeError, ValueError, KeyError) as error:
            if isinstance(error, ModelError) or not given:
                raise
            raise ModelError(f"cannot build {name} with {dict(given)}: {error}", hint="Check --arch-args.") from error
        if found is None:
            raise ModelError(f"the weights do not fit {name}: {_differences(name, state, given or {})}", hint=HINT)
        return found
    dense = [known for known in dense_names() if known not in _TWINS]
    candidates = [*BUILTIN, *_by_size(state, torchvision_names()), *_by_size(state, dense)]
    modules = _modules(state)
    for candidate in candidates:
        theirs = top_level_of(candidate)
        if any(theirs <= ours for ours in modules) and (found := _fit(candidate, state, {})) is not None:
            twins = [f"the weights fit {twin}, too: name it with --arch if it is that" for twin in _twins(candidate)]
            return replace(found, note="; ".join(filter(None, (found.note, *twins))))
    kinships = {candidate: _kinship(candidate, modules) for candidate in candidates}
    closest = max(kinships.values())
    if not closest:
        raise ModelError(
            f"the weights fit no known architecture; none has modules like those of {listed(list(state))}", hint=HINT
        )
    kin = [candidate for candidate in candidates if kinships[candidate] == closest]
    nearest = max(kin, key=lambda known: _likeness(known, state))
    raise ModelError(
        f"the weights fit no known architecture; nearest is {nearest}: {_differences(nearest, state, {})}", hint=HINT
    )


def _by_size(state: Mapping[str, Tensor], names: Iterable[str]) -> list[str]:
    """Torchvision's names, those with the most similar number of parameters first, so that few need building."""
    size = sum(tensor.numel() for key, tensor in state.items() if not key.endswith(_BUFFERS))
    return sorted(names, key=lambda name: abs(math.log(parameters(name) / max(size, 1))))


def _twins(name: str) -> list[str]:
    return [twin for twin, known in _TWINS.items() if known == name]


def _modules(state: Mapping[str, Tensor]) -> set[frozenset[str]]:
    """The names right below every module of a state dict, any of which may be the network inside its wrappers."""
    below: dict[str, set[str]] = defaultdict(set)
    for key in unwrapped(state):
        parts = key.split(".")
        for depth, part in enumerate(parts):
            below[".".join(parts[:depth])].add(part)
    return {frozenset(names) for names in below.values()}


def _kinship(name: str, modules: Iterable[frozenset[str]]) -> float:
    """Share of the top-level names, such as ``layer1`` or ``classifier``, that a module and an architecture both have.

    Costs little for many names: it is the same for all that differ only in depth or width.
    """
    theirs = top_level_of(name)
    return max((len(ours & theirs) / len(ours | theirs) for ours in modules), default=0)


def _plain(name: str, given: Mapping[str, Any] | None = None) -> Shapes:
    """Shapes of the architecture as published, but for the options given."""
    return shapes_of(name, tuple({**_options(name, {}), **(given or {})}.items()))


def _views(name: str, state: Mapping[str, Tensor], given: Mapping[str, Any]) -> list[View]:
    if name.startswith("densenet"):
        state = {_OLD_DENSENET.sub(r"\1\2", key): tensor for key, tensor in state.items()}
    return views(_plain(name, given), state)


def _options(name: str, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options other than the class count that the shapes give away."""
    if name in AUXILIARY:
        return {"aux_logits": False}
    positions, patches = state.get("encoder.pos_embedding"), state.get("conv_proj.weight")
    if name.startswith("vit_") and positions is not None and patches is not None and positions.ndim == 3:
        side = math.isqrt(max(positions.shape[1] - 1, 0))
        size = side * patches.shape[-1]
        if side and size != 224 and side * side == positions.shape[1] - 1:
            return {"image_size": size}
    return {}


def _expected(name: str, state: Mapping[str, Tensor], given: Mapping[str, Any]) -> tuple[Shapes, dict[str, Any]]:
    """Shapes of the architecture with the options, input channels and class count given or shown by the state dict."""
    options = {**_options(name, state), **given}
    try:
        shapes = shapes_of(name, tuple(options.items()))
    except (TypeError, ValueError):  # for example a patch size that does not divide the image size
        options, shapes = dict(given), shapes_of(name, tuple(given.items()))
    first = next((key for key, shape in shapes.items() if len(shape) == 4 and shape[1] == RGB), "")
    if first in state and state[first].ndim == 4 and state[first].shape[1] not in (0, RGB):
        options.setdefault("in_channels", min(MOST_CHANNELS, state[first].shape[1]))
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
    if "num_classes" not in given and len(counts) == 1 and (count := counts.pop()).is_integer():
        options["num_classes"] = min(MOST_CLASSES, max(1, int(count)))
    if "num_classes" in options or "in_channels" in options:
        shapes = shapes_of(name, tuple(options.items()))
    options.setdefault("num_classes", classes)
    return shapes, options


def _fit(name: str, original: Mapping[str, Tensor], given: Mapping[str, Any]) -> Recognised | None:
    fits: list[tuple[View, dict[str, Any]]] = []
    for view in _views(name, original, given):
        shapes, options = _expected(name, view.state, given)
        if view.complete and all(tuple(view.state[key].shape) == shapes[key] for key in keys_of(shapes)):
            fits.append((view, options))
    if not fits:
        return None
    view, options = fits[0]
    notes = []
    channels = options.get("in_channels", RGB)
    if channels != RGB:
        notes.append(
            f"{channels} input channel{'s' * (channels > 1)} instead of {RGB}; "
            "normalised by the mean of ImageNet's statistics unless --mean and --std are given"
        )
    heads = ("aux_classifier.",) if name.startswith(_SEGMENTATION) else AUXILIARY.get(name, ())
    if any(key.startswith(tuple(view.prefix + head for head in heads)) for key in view.unused):
        notes.append("auxiliary heads dropped (only used in training)")
    if note := view_note(view, [other for other, _ in fits[1:]], known=heads):
        notes.append(note)
    if name in AUXILIARY:
        # These weights were converted from another framework, which scaled its inputs differently; torchvision turns
        # the conversion (of three channels) on with its own weights, and nothing in a state dict tells.
        options["transform_input"] = options["num_classes"] == 1000 and channels == RGB
        if options["transform_input"]:
            notes.append("transform_input=True assumed, as for torchvision's own 1000-class weights")
        elif channels == RGB:
            notes.append("if fine-tuned from torchvision's weights, normalise with --mean 0.5 --std 0.5")
    return Recognised(architecture=of_kind(name, options), state=view.state, note="; ".join(notes))


def _likeness(name: str, state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Order of nearness: keys in common less keys that differ, then equal shapes."""
    view, shapes = _views(name, state, {})[0], _plain(name)
    ours = keys_of(view.state)
    equal = sum(tuple(view.state[key].shape) == shapes[key] for key in ours)
    return len(ours) - len(view.missing) - len(view.stray) - len(view.unused), equal


def _differences(name: str, state: Mapping[str, Tensor], given: Mapping[str, Any]) -> str:
    view = _views(name, state, given)[0]
    shapes, _ = _expected(name, view.state, given)
    return differences(view, shapes)
