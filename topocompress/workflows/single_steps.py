"""The steps one at a time, on a module in memory: :func:`score`, :func:`plan` and :func:`measure`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from topocompress.criteria.base import Criterion
from topocompress.criteria.registry import create
from topocompress.dependencies.groups import explicit
from topocompress.dependencies.heads import HeadAttention, attention_heads
from topocompress.deploy.latency import compare_latency, peak_memory
from topocompress.deploy.measurement import (
    count_macs,
    count_parameters,
    evaluate,
    layer_macs,
    likenesses,
    step_macs,
)
from topocompress.errors import DataError, ModelError
from topocompress.models.loading import fingerprint
from topocompress.network.capture import Batches, Maps, made_maps
from topocompress.network.carrying import takes_several
from topocompress.network.layers import CONVOLUTIONS, LAYERS, RECURRENT, separates, width_of
from topocompress.planning.plan import make_plan, nothing_to_prune
from topocompress.planning.rules import Allocation, Limits
from topocompress.runtime.arguments import checked
from topocompress.runtime.progress import Progress, silent
from topocompress.runtime.resources import ANY, Resources
from topocompress.scoring.dispatch import score_layers
from topocompress.scoring.store import ScoreStore
from topocompress.surgery.trial import prunable_groups
from topocompress.types import ChannelGroup, LayerCost, Measurement, PruningPlan, Scores


@takes_several
@checked
def score(
    model: nn.Module,
    batches: Batches | None = None,
    *,
    example: Tensor | None = None,
    criterion: str | Criterion = "betti",
    ignore: Sequence[str] = (),
    linear: bool = False,
    memory: int | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    map_size: int | str | None = None,
    sketch: int | None = None,
    progress: Progress = silent,
) -> Scores:
    """Score every filter of every convolution that can be pruned.

    Args:
        model: The network; left as it was.
        batches: Calibration batches (images (B, C, H, W), labels (B,)), re-iterable; weights-only criteria need none.
        example: (1, C, H, W) input for tracing; by default the first calibration sample. A tuple or dict of tensors
            (1, ...) where ``forward`` takes several, and then batches hold such ones too.
        criterion: Registered name or instance.
        ignore: Shell-style patterns of layers whose groups stay whole.
        linear: Score linear layers that see a vector per sample too.
        memory: Bytes for feature clouds and the processes that score them; by default half of what is free.
        workers: Processes that score filters; by default as many as there are cores. The scores do not depend on it.
        cluster: Address of a Dask scheduler whose workers score the filters instead.
        map_size: Average larger maps down to this many pixels a side; ``full`` leaves them whole; by default as the
            criterion has it, unless there is a sketch.
        sketch: Project larger maps onto this many random directions; see :class:`topocompress.network.capture.Maps`.
        progress: Called as ``progress(step, done, total)``.

    Returns:
        Scores; ``Scores.higher`` says whether a higher one means keep or remove.

    Raises:
        TopocompressError: A criterion, layer, model or sample is not usable; the message says which.
    """
    chosen = create(criterion) if isinstance(criterion, str) else criterion
    traced = _example(batches) if example is None else example
    return score_groups(
        model,
        prunable_groups(model, traced, ignore=ignore, linear=linear),
        chosen,
        batches,
        resources=Resources(memory=memory, workers=workers, cluster=cluster),
        maps=made_maps(map_size, sketch),
        example=traced,
        progress=progress,
    )


def score_groups(
    model: nn.Module,
    groups: Sequence[ChannelGroup],
    criterion: Criterion,
    calibration: Batches | None,
    *,
    example: Tensor | None = None,
    resources: Resources = ANY,
    maps: Maps | None = None,
    store: ScoreStore | None = None,
    progress: Progress = silent,
) -> Scores:
    """Score the filters of groups found before; see :func:`score` and ``scoring.dispatch.score_layers``."""
    listened = explicit(model)
    linear = any(_all_linear(listened, group) for group in groups if not group.protected)
    kinds = LAYERS if linear else CONVOLUTIONS
    names = [
        name
        for group in groups
        if not group.protected
        for name in group.filters
        if isinstance(listened.get_submodule(name), kinds)
    ]
    if not names:
        raise nothing_to_prune({group.root: group.protected for group in groups})
    found = score_layers(
        listened,
        names,
        criterion,
        calibration,
        example=example,
        groups=[group.filters for group in groups if not group.protected],
        resources=resources,
        maps=maps,
        store=store,
        progress=progress,
    )
    return replace(found, model=fingerprint(model))


def _all_linear(model: nn.Module, group: ChannelGroup) -> bool:
    return not any(isinstance(model.get_submodule(name), CONVOLUTIONS) for name in group.filters)


def _example(calibration: Batches | None) -> Tensor:
    for images, _ in calibration or ():
        return images[:1]
    raise DataError("an example input is needed for tracing", hint="Give batches or example=.")


def layer_costs(model: nn.Module, example: Tensor) -> dict[str, LayerCost]:
    """Multiply-accumulates per convolution or linear layer for one sample, and the widths they scale with."""
    costs = {}
    counted = explicit(model)
    modules = dict(counted.named_modules())
    for name, macs in layer_macs(counted, example).items():
        module = modules[name]
        if isinstance(module, LAYERS):
            inputs = 0 if separates(module) else width_of(module, out=False)
            costs[name] = LayerCost(macs=macs, outputs=width_of(module, out=True), inputs=inputs)
        elif isinstance(module, RECURRENT):
            reading, own = step_macs(module)
            fixed = macs * own // (reading + own)
            costs[name] = LayerCost(macs=macs, outputs=0, inputs=module.input_size, fixed=fixed)
        else:
            heads = module.num_heads if isinstance(module, HeadAttention) else 0
            costs[name] = LayerCost(macs=macs, outputs=heads, inputs=0)
    for name, attention in attention_heads(counted).items():  # a layer with an output per head shrinks with the heads
        for inner in [each for each in costs if each.startswith(f"{name}.") and each.rpartition(".")[0] != name]:
            if costs[inner].outputs == attention.num_heads and name in costs:
                costs[name] = replace(costs[name], macs=costs[name].macs + costs.pop(inner).macs)
    return costs


@takes_several
@checked
def plan(
    model: nn.Module,
    scores: Scores,
    *,
    example: Tensor,
    max_betti: float | None = None,
    ratio: float | None = None,
    target_macs: float | None = None,
    min_channels: int = 1,
    max_ratio: float | None = None,
    round_to: int | Literal["auto"] = "auto",
    ignore: Sequence[str] = (),
    linear: bool = False,
    allocation: Allocation = "auto",
) -> PruningPlan:
    """Decide which channels go; see :func:`topocompress.planning.plan.make_plan` for the rules.

    Args:
        model: The scored network; left as it was.
        scores: From :func:`score`.
        example: (1, C, H, W) input for tracing, or a tuple or dict of tensors as in :func:`score`.
        max_betti: Remove channels that score above this. Exactly one rule must be given.
        ratio: Remove this share of each group's channels, 0..1.
        target_macs: Leave this share of the multiply-accumulates, 0..1.
        min_channels: Channels that each group keeps at least.
        max_ratio: Largest share of a group that may go; 0.5 with ``max_betti``.
        round_to: Kept widths are multiples of it.
        ignore: Shell-style patterns of layers whose groups stay whole.
        linear: Whether linear layers that see a vector per sample may be pruned too.
        allocation: With ``target_macs``, ``global`` cuts where least is lost for what is saved; ``auto`` does where
            scores of different layers can be compared.

    Raises:
        PlanError: The rule is not usable, or removes nothing or everything.
    """
    groups = prunable_groups(model, example, ignore=ignore, linear=linear)
    limits = Limits(min_channels=min_channels, max_ratio=max_ratio, round_to=round_to)
    return make_plan(
        scores,
        groups,
        layer_costs(model, example),
        max_betti=max_betti,
        ratio=ratio,
        target_macs=target_macs,
        limits=limits,
        allocation=allocation,
    )


@takes_several
@checked
def measure(
    model: nn.Module,
    *,
    example: Tensor,
    onnx: str | os.PathLike[str] | None = None,
    evaluation: Batches | None = None,
    reference: nn.Module | None = None,
    batch_sizes: Sequence[int] = (1, 8),
) -> Measurement:
    """Measure one network.

    To compare the speed of two files use :func:`topocompress.compare_latency`, which times them in turn in one run.

    Args:
        model: The network; left as it was.
        example: (1, C, H, W) input, or a tuple or dict of tensors as in :func:`score`.
        onnx: Its exported file; without it there is no file size, latency and memory.
        evaluation: Batches (images (B, C, H, W), labels (B,)); without it there is no accuracy.
        reference: The network to agree with; without it there is no agreement, nor explained variation.
        batch_sizes: Samples per inference whose latency is measured.

    Raises:
        ModelError: The network does not accept the samples.
        ExportError: The file cannot be run.
    """
    found = evaluate(model, evaluation) if evaluation is not None else None
    other = evaluate(reference, evaluation) if reference is not None and evaluation is not None else None
    path = Path(onnx) if onnx is not None else None
    if path is not None and not path.is_file():
        raise ModelError(f"{path} does not exist", hint="Export the model first with export_onnx().")
    sample = example.cpu().numpy()
    return Measurement(
        parameters=count_parameters(model),
        macs=count_macs(model, example),
        file_bytes=path.stat().st_size if path else None,
        accuracy=found.accuracy if found else None,
        **(likenesses(other, found) if found and other else {}),
        latency=compare_latency([path], sample=sample, batch_sizes=batch_sizes)[0] if path else (),
        peak_bytes=peak_memory(path, sample=sample) if path else None,
    )
