"""A plan applied to a copy of the model, then verified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from topocompress.dependencies.calls import Explored, explore
from topocompress.dependencies.groups import explicit
from topocompress.dependencies.heads import HeadAttention, attention_heads
from topocompress.dependencies.loose import buffers_traced, resize_owners, shapes_of
from topocompress.dependencies.origins import Sizes
from topocompress.dependencies.tracing import trace_parts
from topocompress.errors import ModelError, SurgeryError
from topocompress.models.loading import fingerprint
from topocompress.network.baking import baked
from topocompress.network.carrying import takes_several
from topocompress.network.copying import copied
from topocompress.network.detectors import followed
from topocompress.network.inference import first_line, written_buffers
from topocompress.network.layers import LAYERS, RECURRENT, separates, stay_grouped, width_of
from topocompress.network.modes import EachAlone
from topocompress.surgery.checking import Difference, Yardstick, stopping_in
from topocompress.surgery.masking import Reader, mask, readers
from topocompress.surgery.parameters import parameters_of, settle
from topocompress.surgery.statistics import Copies, copies, either, overwrite, silences
from topocompress.types import GroupPlan, PruningPlan

_PRUNING_ERRORS = (AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What torch-pruning raises where a module is not what it expects."""
STOPS = "the model runs no more after removal; it stops in"
_KEEP = "Its channels are wired in a way that was not recognised: keep it whole with --ignore LAYER."


@takes_several
def apply(model: nn.Module, plan: PruningPlan, *, example: Tensor, any_weights: bool = False) -> nn.Module:
    """Remove a plan's channels from a copy of the model.

    The result is verified: widths are as planned, outputs have the shape they had, in eval mode and in training, and on
    ``example`` and on noise it computes what the original computes when the removed channels are not read by anyone.
    Where the channels go through a mean over channels, as in a LayerNorm, the two differ by design; then it is verified
    that nothing else does (:mod:`topocompress.surgery.statistics`).

    Args:
        model: The network; left as it was.
        plan: A plan made for it.
        example: (1, C, H, W) input on the model's device; a tuple or dict of them where ``forward`` takes several.
        any_weights: Accept a plan made for other weights of the same architecture.

    Returns:
        The smaller network, in the mode of ``model``, with gradients required where ``model`` required them.

    Raises:
        SurgeryError: The plan does not fit the model, or the result fails the verification.
        ModelError: The model cannot be traced.
    """
    if not any_weights and plan.model != fingerprint(model):
        raise SurgeryError(
            "the plan was made for another model: the fingerprints differ",
            hint="Score and plan this model, or pass any_weights=True for other weights of the same architecture.",
        )
    yardstick = Yardstick(model, example)
    try:
        smaller = _remove(model, plan, yardstick)
    except SurgeryError as error:
        planned = [entry for entry in plan.groups if entry.remove]
        if len(planned) < 2:
            raise
        culprits = [entry.root for entry in planned if refusal(model, replace(plan, groups=(entry,)), yardstick)]
        where = ", ".join(culprits) or "several groups together"
        raise SurgeryError(f"{where}: {error.what}", hint=error.hint) from error
    modes = {name: module.training for name, module in model.named_modules()}
    for name, module in smaller.named_modules():
        module.training = modes[name] = modes.get(name, modes.get(name.rpartition(".")[0], model.training))
    return smaller


def refusal(model: nn.Module, plan: PruningPlan, yardstick: Yardstick) -> str:
    """Why the verification of :func:`apply` refuses a plan, maybe for other weights; empty if it does not."""
    try:
        _remove(model, plan, yardstick)
    except SurgeryError as error:
        return error.what
    return ""


def replay(model: nn.Module, plan: PruningPlan, *, example: Tensor) -> nn.Module:
    """Remove a plan's channels from a new network of the same architecture whose own weights do not count.

    Nothing is compared: :func:`apply` did that when the plan was carried out.

    Args:
        model: The network. It must not be used any more.
        plan: A plan that was applied to its like.
        example: (1, C, H, W) input.

    Returns:
        The smaller network, in eval mode.

    Raises:
        SurgeryError: The plan does not fit.
        ModelError: The model cannot be traced.
    """
    smaller = _editable(model, plan)
    _cut(smaller, None, plan, explore(followed(smaller), example))
    return smaller.eval()


def _remove(model: nn.Module, plan: PruningPlan, yardstick: Yardstick) -> nn.Module:
    original = _editable(model, plan)
    smaller, masked = copied(original), copied(original)
    _cut(smaller, masked, plan, yardstick.explored)
    _check_widths(smaller, plan)
    if difference := _compared(smaller, masked, yardstick):
        with EachAlone() as norms:
            if _compared(smaller, masked, yardstick) or not norms.found:
                _check_statistics(original, plan, yardstick, difference)
    return smaller


def _editable(model: nn.Module, plan: PruningPlan) -> nn.Module:
    """The model, or a copy of plain weights, whose attention layers can lose heads if the plan takes any."""
    twin = explicit(model)
    _check_groups(twin, plan)
    taken = {entry.part for entry in plan.groups if entry.remove}
    return twin if taken & attention_heads(twin).keys() else baked(model)


def _cut(smaller: nn.Module, masked: nn.Module | None, plan: PruningPlan, explored: Explored) -> None:
    """Remove the channels from one copy in place; in the other let nobody read them."""
    removed = [entry for entry in plan.entries if entry.remove]
    before, shapes = parameters_of(smaller), shapes_of(smaller)
    apart = {name for name, module in smaller.named_modules() if separates(module)}
    layers, heads = _layers(smaller), attention_heads(smaller)
    with buffers_traced(smaller, written_buffers(followed(smaller), explored.runs[0].inputs)):
        parts = trace_parts(followed(smaller), [entry.part for entry in removed if entry.part not in heads], explored)
        unread, left, sizes = readers(masked) if masked is not None else {}, dict[str, list[int]](), Sizes()
        for entry in removed:
            if entry.part in heads:
                _remove_heads(heads[entry.part], unread.get(f"{entry.part}.proj"), entry)
                continue
            root, graph = layers[entry.root], parts[entry.part].graph
            group = graph.get_pruning_group(
                root, graph.get_pruner_of_module(root).prune_out_channels, list(entry.remove)
            )
            if not graph.check_pruning_group(group):
                raise SurgeryError(
                    f"{entry.root}: removing {len(entry.remove)} of {entry.width} channels empties a layer"
                )
            sizes.note(entry.part, graph, group)
            try:
                if unread:
                    mask(unread, left, parts[entry.part], group)
                group.prune()
            except IndexError as error:
                raise SurgeryError(f"{entry.root}: its channels are read where there are fewer", hint=_KEEP) from error
            except _PRUNING_ERRORS as error:
                raise SurgeryError(
                    f"{entry.root}: something that its channels reach cannot be pruned: {first_line(error)}", hint=_KEEP
                ) from error
    sizes.write(followed(smaller))
    stay_grouped(smaller, apart)
    resize_owners(smaller, shapes)
    settle(smaller, before)


def _check_groups(model: nn.Module, plan: PruningPlan) -> None:
    layers = _layers(model)
    for entry in plan.entries:
        if entry.root not in layers or width_of(layers[entry.root], out=True) != entry.width:
            raise SurgeryError(
                f"the plan has a group {entry.root!r} of width {entry.width}, the model has not",
                hint="Make the plan for this very model.",
            )


def _remove_heads(attention: HeadAttention, unread: Reader | None, entry: GroupPlan) -> None:
    """Remove heads, and in the unpruned network, if there is one, let the projection after them not read them."""
    channels = [attention.head_channels(head) for head in range(attention.num_heads)]
    gone = [head for head, each in enumerate(channels) if set(each.rows) <= set(entry.remove)]
    if isinstance(unread, nn.Linear):
        with torch.no_grad():
            for head in gone:
                unread.weight[:, list(channels[head].columns)] = 0
    attention.remove_heads(gone)


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that groups are named after."""
    return {name: module for name, module in model.named_modules() if isinstance(module, (*LAYERS, RECURRENT))}


def _check_widths(smaller: nn.Module, plan: PruningPlan) -> None:
    layers = _layers(explicit(smaller))
    for entry in plan.entries:
        width = width_of(layers[entry.root], out=True)
        if width != entry.kept:
            raise SurgeryError(f"{entry.root} has {width} channels after removal, not {entry.kept}", hint=_KEEP)


def _compared(smaller: nn.Module, masked: nn.Module, yardstick: Yardstick) -> Difference | None:
    """Where the smaller network differs from the one of which nobody reads what was removed.

    Raises:
        SurgeryError: It does not run, or its outputs have other shapes or are not finite.
    """
    try:
        actual = yardstick.outputs(smaller)
    except ModelError as error:
        where = stopping_in(followed(smaller), yardstick.example)
        raise SurgeryError(f"{STOPS} {where}: {error.what}", hint=_KEEP) from error
    for before, outputs in zip(yardstick.shapes(), actual, strict=True):
        if (after := [tuple(one.shape) for one in outputs]) != before:
            raise SurgeryError(f"outputs change shape from {before} to {after}")
        if not all(one.isfinite().all() for one in outputs):
            raise SurgeryError("the pruned model gives NaN or infinity")
    return yardstick.difference(yardstick.outputs(masked, spare=True), actual)


def _check_statistics(original: nn.Module, plan: PruningPlan, yardstick: Yardstick, difference: Difference) -> None:
    """Refuse a plan under which the outputs differ by something else than a mean or a sum over channels.

    Raises:
        SurgeryError: They do.
    """
    heads = attention_heads(original)
    removed = [entry for entry in plan.entries if entry.remove]
    traced = copied(original)
    roots = _layers(traced)
    with buffers_traced(traced, written_buffers(followed(traced), yardstick.example)):
        inside = [entry.part for entry in removed if entry.part not in heads]
        parts = trace_parts(followed(traced), inside, yardstick.explored)
        tried: list[list[Copies | None]] = []
        for find in (copies, silences, either):
            found = [
                Copies(entry, {}) if entry.part in heads else find(parts[entry.part], roots[entry.root], entry)
                for entry in removed
            ]
            known = [each for each in found if each is not None and found not in tried]
            changed = any(each.chosen for each in known)
            if changed and len(known) == len(found) and _same_with(original, known, plan, yardstick):
                return
            tried.append(found)
    raise SurgeryError(
        f"the pruned model does not compute what the original computes without these channels: outputs differ "
        f"by {difference.largest:.3g} where they otherwise change by {difference.changes:.3g}",
        hint=_KEEP,
    )


def _same_with(original: nn.Module, made: Sequence[Copies], plan: PruningPlan, yardstick: Yardstick) -> bool:
    """Whether removal changes nothing in a network with some of its channels overwritten."""
    smaller, masked = copied(original), copied(original)
    for each in made:
        overwrite(smaller, each.chosen)
        overwrite(masked, each.chosen)
    _cut(smaller, masked, replace(plan, groups=tuple(each.entry for each in made)), yardstick.explored)
    return _compared(smaller, masked, yardstick) is None
