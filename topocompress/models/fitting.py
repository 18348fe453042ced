"""A checkpoint's weights into a network: which of them, and which network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from topocompress.errors import ModelError
from topocompress.models.architectures import build, of_kind, spelled
from topocompress.models.checkpoints import check_dense, check_finite
from topocompress.models.contents import Candidate, Checkpoint, taken_note
from topocompress.models.factories import accepts, is_factory
from topocompress.models.keys import differences, optional, same_values, view_note, views
from topocompress.models.recognition import Recognised, recognise
from topocompress.models.timm import is_timm
from topocompress.types import Architecture

_TRIED = 16
"""State dicts of one file that are held against the known networks; recognising takes seconds where nothing fits."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A network that holds a checkpoint's weights.

    Attributes:
        module: The network, in eval mode.
        architecture: How to build it again.
        note: What was assumed; empty if nothing was.
    """

    module: nn.Module
    architecture: Architecture
    note: str


def fit(checkpoint: Checkpoint, where: str, *, arch: str | None, given: Mapping[str, Any]) -> Fitted:
    """Build the network that a checkpoint's weights belong to, and fill it with the deployed ones among them.

    Args:
        checkpoint: What :func:`topocompress.models.checkpoints.read_checkpoint` found.
        where: The checkpoint as the user wrote it.
        arch: A name, ``timm:NAME`` or ``pkg.module:factory``; ``None`` finds it among torchvision's.
        given: Arguments for the builder.

    Raises:
        ModelError: No weights in it fit; names the first differences. Or they hold NaN or Inf.
    """
    if arch is not None and is_factory(arch) and not is_timm(arch):
        found, note = _choose(checkpoint, lambda state, _: _fit_factory(arch, given, state, where))
    else:
        found, note = _choose(checkpoint, lambda state, name: _recognised(state, name or arch, given, where))
    check_finite(found.state, where)
    module = build(found.architecture)
    own = module.state_dict()
    for key, value in found.state.items():
        if key in own and own[key].is_floating_point() and not value.is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            raise ModelError(
                f"{where}: {key} is of {kind}, where weights of floating point belong",
                hint="Give the checkpoint with the weights themselves, not a mask or quantised numbers.",
            )
    # Starting from the module's own dictionary keeps its version marks, which some modules (MNASNet) insist on.
    own.update(found.state)
    module.load_state_dict(own)
    notes = (note, found.note, _precision(found.state), checkpoint.note)
    return Fitted(module=module, architecture=found.architecture, note="; ".join(filter(None, notes)))


def _choose(
    checkpoint: Checkpoint, fit_one: Callable[[Mapping[str, Tensor], str | None], Recognised]
) -> tuple[Recognised, str]:
    """The first state dict that fits, and what to say of the others."""
    largest = sorted(checkpoint.candidates, key=lambda candidate: -len(candidate.state))[:_TRIED]
    tried = set(map(id, largest))
    fits: list[tuple[Candidate, Recognised]] = []
    errors: dict[int, ModelError] = {}
    for candidate in checkpoint.candidates:
        if id(candidate) not in tried:
            continue
        try:
            fitted = fit_one(candidate.state, spelled(fits[0][1].architecture) if fits else None)
            check_dense(fitted.state, checkpoint.source)
            fits.append((candidate, fitted))
        except ModelError as error:
            errors[id(candidate)] = error
    if not fits:
        raise errors[id(largest[0])]
    taken, found = fits[0]
    copies = [candidate.name for candidate, other in fits[1:] if not same_values(found.state, other.state)]
    alike = {id(candidate) for candidate, _ in fits}
    rest = [candidate.name for candidate in checkpoint.candidates if id(candidate) not in alike]
    return found, taken_note(taken.name, copies, rest)


def _recognised(state: Mapping[str, Tensor], name: str | None, given: Mapping[str, Any], where: str) -> Recognised:
    try:
        return recognise(state, name, given)
    except ModelError as error:
        raise ModelError(f"{where}: {error.what}", hint=error.hint) from error


def _fit_factory(spec: str, given: Mapping[str, Any], state: Mapping[str, Tensor], where: str) -> Recognised:
    shapes = {key: tuple(value.shape) for key, value in build(of_kind(spec, given)).state_dict().items()}
    found = views(shapes, state)
    fitting = [view for view in found if view.complete and _shaped(view.state, shapes)]
    if fitting:
        note = view_note(fitting[0], fitting[1:])
        return Recognised(architecture=of_kind(spec, given), state=fitting[0].state, note=note)
    classes = _classes(found[0].state, shapes) if found[0].complete else None
    if classes and "num_classes" not in given and accepts(spec, "num_classes", ModelError):
        try:
            again = _fit_factory(spec, {**given, "num_classes": classes}, state, where)
        except ModelError:
            pass
        else:
            said = "; ".join(filter(None, (f"num_classes={classes}, as the weights show", again.note)))
            return Recognised(architecture=again.architecture, state=again.state, note=said)
    hint = "Name the architecture it was saved from, and its arguments with --arch-args NAME=VALUE."
    raise ModelError(f"{where} does not fit {spec}: {differences(found[0], shapes)}", hint=hint)


def _shaped(state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return all(tuple(value.shape) == shapes[key] for key, value in state.items() if not optional(key))


def _classes(state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """The class count, where all that differs is one number in the first axis of one layer."""
    unlike = [(tuple(state[key].shape), shapes[key]) for key in state if tuple(state[key].shape) != shapes[key]]
    counts = {(ours[0], theirs[0]) for ours, theirs in unlike if ours and theirs and ours[1:] == theirs[1:]}
    layers = {key.rpartition(".")[0] for key in state if tuple(state[key].shape) != shapes[key]}
    return counts.pop()[0] if len(counts) == 1 and len(layers) == 1 and all(o[1:] == t[1:] for o, t in unlike) else None


def _precision(state: Mapping[str, Tensor]) -> str:
    others = {
        str(value.dtype).removeprefix("torch.")
        for value in state.values()
        if value.is_floating_point() and value.dtype != torch.float32
    }
    return f"weights converted from {' and '.join(sorted(others))} to float32" if others else ""
