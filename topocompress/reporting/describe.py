"""What a report says of each step, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from topocompress.activation.module import TopologicalActivation
from topocompress.data.loading import NO_CLASSES, ONE_LABEL, STAND_IN, Data
from topocompress.models.loading import LoadedModel
from topocompress.network.inference import sample_count
from topocompress.network.outputs import Outputs
from topocompress.planning.plan import removal_counts
from topocompress.planning.ranking import rank
from topocompress.surgery.activations import Swapped, some
from topocompress.surgery.trial import found_on_trial
from topocompress.training.finetuning import FinetuneResult
from topocompress.training.recipe import Recipe
from topocompress.types import ChannelGroup, Delivery, GroupPlan, Measurement, PruningPlan, Scores, in_fewer_bits

_FEW_TO_LEARN_FROM = 100
_EXPLAINED = 1.5
"""How many times faster than by its multiply-accumulates a network may get before it is worth a word."""


def model(loaded: LoadedModel, fingerprint: str) -> dict[str, Any]:
    """Where the model came from and which it is."""
    return {
        "source": loaded.source,
        "architecture": asdict(loaded.architecture),
        "preprocessing": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(loaded.preprocessing).items()
        },
        "fingerprint": fingerprint,
        "pruned_before": len(loaded.history),
        "note": loaded.note,
    }


def data(data: Data, outputs: Outputs) -> dict[str, Any]:
    """Where the samples came from, how many serve which use, and what is measured on them."""
    counts = {"calibration": data.calibration, "train": data.train, "evaluation": data.evaluation}
    return {
        "source": data.source,
        "stand_in": data.source == STAND_IN,
        "labelled": data.labelled,
        "classes": len(data.classes),
        "measure": "accuracy" if data.labelled else outputs.measure,
        "compared_by": outputs.what,
        "samples": {use: 0 if samples is None else sample_count(samples) for use, samples in counts.items()},
        "note": data.note,
        "pixels": data.pixels,
        "skipped": list(data.skipped),
        "fingerprint": data.fingerprint,
        "trained_on": data.trained_on,
        "held_out_source": data.held_out_source,
    }


def scoring(scores: Scores) -> dict[str, Any]:
    """Criterion, settings, and the quartiles of every layer."""
    return {
        "criterion": scores.criterion,
        "higher": scores.higher,
        "settings": dict(scores.settings),
        "samples": scores.samples,
        **scores.run,
        "layers": layer_rows(scores, ()),
    }


def scoring_lines(scores: Scores) -> list[str]:
    """How the scores were computed, for the reader; empty where no samples were needed."""
    run = scores.run
    if not run:
        return []
    passes, reused = run["passes"], run.get("layers_reused", 0)
    if reused == len(scores.layers):
        return ["Scores of an earlier, equal run."]
    line = f"{passes} {'pass' if passes == 1 else 'passes'} over {scores.samples} samples"
    if "peak_cloud_bytes" not in run:  # the criterion reads no clouds
        return [f"{line}."]
    line += ", "
    line += f"{run['peak_cloud_bytes'] / 1e9:.2f} GB of feature maps at a time, {run['workers']} "
    line += f"{'process' if run['workers'] == 1 else 'processes'}."
    return [line, *([f"Layers taken from an interrupted run: {reused}."] if reused else [])]


def plan(plan: PruningPlan, groups: Sequence[ChannelGroup] = (), scores: Scores | None = None) -> dict[str, Any]:
    """Rule, totals, and one row per group; with groups and scores also how each of its units was judged."""
    by_root = {group.root: group for group in groups}
    return {
        "rule": dict(plan.rule),
        "criterion": plan.criterion,
        "channels_before": sum(entry.width for entry in plan.groups if not entry.protected),
        "channels_removed": plan.removed,
        "dead_removed": sum(len(entry.dead) for entry in plan.groups),
        "macs_predicted": plan.macs_after,
        "groups": [
            {
                "root": entry.root,
                "before": entry.width,
                "after": entry.kept,
                "asked": entry.above,
                "dead": len(entry.dead),
                "coupled": list(entry.coupled),
                "kept_because": entry.protected,
                "units": {} if entry.protected or scores is None else _units(entry, by_root[entry.root], scores),
            }
            for entry in plan.groups
        ],
    }


def _units(entry: GroupPlan, group: ChannelGroup, scores: Scores) -> dict[str, Any]:
    """Score of each unit, 6 digits of it; which units went, and which are dead."""
    ranked, gone = rank(group, scores), set(entry.remove)
    means = ranked.priority if scores.higher == "remove" else -ranked.priority
    return {
        "layers": [layer for layer in group.filters if layer in scores.layers],
        "scores": [float(f"{value:.6g}") for value in means],
        "removed": [unit for unit, channels in enumerate(group.units) if gone.issuperset(channels)],
        "dead": np.flatnonzero(ranked.dead).tolist(),
    }


def tuning(tunings: Sequence[FinetuneResult], recipe: Recipe, swapped: Swapped | None = None) -> dict[str, Any]:
    """Settings and history of fine-tuning, and what became of swapped activations; empty if there was none.

    ``history`` has every epoch of every iteration of pruning, and which it is; ``best_epoch`` is the last one's.
    """
    if not tunings:
        return {}
    last = tunings[-1]
    return {
        **recipe.settings(),
        "augmentation": last.augmentation,
        "measure": last.measure,
        "iterations": len(tunings),
        "best_epoch": last.best_epoch,
        "epochs_run": len(last.history) - 1,
        "epochs_resumed": sum(tuned.resumed for tuned in tunings),
        "validation_samples": last.validation_samples,
        "processes": last.processes,
        "device": last.device,
        "history": [
            {"iteration": number, **asdict(epoch)} for number, tuned in enumerate(tunings, 1) for epoch in tuned.history
        ],
        **({} if swapped is None else {"activation": activation(swapped, last)}),
    }


def tuning_warnings(data: Data, recipe: Recipe) -> tuple[str, ...]:
    """A sentence where fine-tuning had to do with samples that were not meant for it."""
    if not recipe.epochs:
        return ()
    if data.source == STAND_IN:
        return (
            "Fine-tuned on crops of two photographs, without labels. What is left is measured on such crops too and "
            "says little of your own images, a few hundred of which, unlabelled, would serve far better.",
        )
    if data.train is None:
        return ("Fine-tuned on the calibration samples, for want of others.",)
    if (count := sample_count(data.train)) < _FEW_TO_LEARN_FROM:
        return (f"Fine-tuned on {count} samples, those beside the calibration samples: lower --samples leaves more.",)
    return ()


def activation(swapped: Swapped, tuned: FinetuneResult) -> dict[str, Any]:
    """Which activations were swapped, which were not, and how large their amplitudes became."""
    amplitudes = {
        name: module.amplitude.detach().abs()
        for name, module in tuned.model.named_modules()
        if isinstance(module, TopologicalActivation)
    }
    return {
        "kind": "topological",
        "swapped": list(swapped.swapped),
        "left": list(swapped.left),
        "folded_back": [name for name in swapped.swapped if name not in amplitudes],
        "amplitudes": {
            name: {"mean": float(values.mean()), "max": float(values.max())} for name, values in amplitudes.items()
        },
    }


def collect_warnings(
    data: Data,
    plan: PruningPlan,
    delivery: Delivery,
    outdone: str = "",
) -> tuple[str, ...]:
    """The sentences that a reader must not miss: what makes the result worth less than it seems.

    Args:
        data: What was measured on.
        plan: What was to go.
        delivery: The files and their measurements.
        outdone: From :func:`~topocompress.reporting.advice.outdone`.
    """
    found = [note for note in (data.note if _limits(data) else "", outdone) if note]
    found += data.warnings
    for reason in dict.fromkeys(entry.protected for entry in plan.groups if found_on_trial(entry.protected)):
        whole = [entry.root for entry in plan.groups if entry.protected == reason]
        found += [f"Kept whole: {some(whole)}, and what is coupled to it: {reason}."] if whole else []
    if data.skipped:
        many = len(data.skipped) > 1
        count = f"{len(data.skipped)} files could not be read and were" if many else "1 file could not be read and was"
        found.append(f"{count} skipped, first {data.skipped[0]}.")
    found += [text for text in (delivery.slow, delivery.failed) if text]
    found += [each.message for each in in_fewer_bits(delivery).values() if not each.kept]
    for before, after in zip(delivery.before.latency, delivery.after.latency, strict=True):
        if before.median_ms / after.median_ms < 1:
            found.append(
                f"The smaller file is not faster at batch {before.batch}: {after.median_ms:.2f} ms against "
                f"{before.median_ms:.2f} ms."
            )
    found += _faster_than_smaller(delivery.before, delivery.after)
    return tuple(found)


def collect_notes(loaded: LoadedModel, data: Data, ahead: str = "", swapped: Swapped | None = None) -> tuple[str, ...]:
    """What a reader may want to know and need not act on: how model and samples were read, and how the criterion did.

    Args:
        loaded: The model.
        data: What was measured on.
        ahead: From :func:`~topocompress.reporting.advice.ahead`.
        swapped: Its activations, where they were to be swapped.
    """
    left = "" if swapped is None or not swapped.left else f"Not swapped: the activations {some(swapped.left)}."
    read = "" if _limits(data) else data.note
    return tuple(filter(None, (ahead, loaded.doubt, loaded.note, read, data.pixels, left)))


def _limits(data: Data) -> bool:
    """Whether the note on the data says that less is measured than one might think."""
    return data.source == STAND_IN or data.note in (ONE_LABEL, NO_CLASSES)


def _faster_than_smaller(before: Measurement, after: Measurement) -> list[str]:
    """A sentence where latency fell by more than what was removed explains."""
    if not before.latency or not after.latency:
        return []
    fewer, faster = before.macs / after.macs, before.latency[0].median_ms / after.latency[0].median_ms
    if faster <= _EXPLAINED * fewer:
        return []
    return [
        f"{faster:.2f}× faster at {fewer:.2f}× fewer MACs is more than removal explains: the original may have run in "
        "a busy moment, or not fit into the processor's caches. 'topocompress bench' times both files again."
    ]


def layer_rows(scores: Scores, thresholds: Sequence[float]) -> list[dict[str, Any]]:
    """One row per layer: filters, dead, min, quartiles, max, and how many each threshold would remove."""
    counts = removal_counts(scores, thresholds)
    rows = []
    for name, layer in scores.layers.items():
        low, first, median, third, high = (float(v) for v in np.quantile(layer.values, (0, 0.25, 0.5, 0.75, 1)))
        rows.append(
            {
                "layer": name,
                "filters": len(layer.values),
                "dead": int(layer.dead.sum()),
                **({"scale": layer.scale} if layer.scale else {}),
                "min": low,
                "q1": first,
                "median": median,
                "q3": third,
                "max": high,
                "above": dict(zip((f"{t:g}" for t in thresholds), counts[name], strict=True)),
            }
        )
    return rows
