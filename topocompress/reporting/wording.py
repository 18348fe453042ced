"""A report in words: the sentences that terminal, Markdown and page have in common."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from topocompress.reporting import budgets
from topocompress.reporting.quantities import WHAT, amount, in_words, measure_of, percent, times, whose
from topocompress.types import Measurement, Report, in_fewer_bits

_ALTERED = {"shift": ", images shifted", "natural": ", images shifted and mirrored"}


def name(report: Report) -> str:
    """What to call the model: its source, of a path the last part."""
    source = str(report.model["source"])
    return source.rstrip("/").rpartition("/")[2] or source


def stage_lines(report: Report) -> list[str]:
    """The data, how outputs are compared, then step by step: removal, re-estimation, tuning, and the controls."""
    measure, data, removed = measure_of(report), report.data, report.removed
    counts = data["samples"]
    spare = f"{counts['train']} for fine-tuning, " if report.finetune and counts["train"] else ""
    elsewhere = f" from {data['held_out_source']}" if data.get("held_out_source") else ""
    uses = f"{counts['calibration']} samples to calibrate, {spare}{counts['evaluation']} held out"
    lines = [
        f"Data: {data['source']}; {uses}{elsewhere}{', all of them training images' if whose(report) else ''}.",
        *(
            [f"Outputs are compared by {data['compared_by']}."]
            if data.get("compared_by") and measure != "accuracy"
            else []
        ),
        *scales_taken(report.scoring),
        f"After removal: {in_words(report)} {amount(measure, removed[measure])}; {_settled(report, measure)}.",
        *_reconstructed(report, measure),
        *_distilled(report, measure),
    ]
    if report.finetune:
        iterations = report.finetune.get("iterations", 1)
        each = f" after each of {iterations} iterations of pruning" if iterations > 1 else ""
        run = report.finetune.get("epochs_run", report.finetune["epochs"])
        lines.append(
            f"After {run} epoch{'s' * (run != 1)} of fine-tuning{each} (best: {report.finetune['best_epoch']}): "
            f"{in_words(report)} {amount(measure, getattr(report.after, measure))}."
        )
    if swapped := report.finetune.get("activation"):
        lines.append(
            f"Topological activations: {len(swapped['swapped'])} swapped, {len(swapped['left'])} left, "
            f"{len(swapped['folded_back'])} folded back to plain ones after fine-tuning."
        )
    untuned = ", no fine-tuning" if report.finetune else ""
    for control in report.controls:
        each = ", ".join(amount(measure, value) for value in control.accuracies)
        once = " (one draw: on these samples more would tell nothing)" if control.drawn_once else ""
        lines.append(
            f"Control, the same widths by {control.criterion}, {_alike(report)}{untuned}: "
            f"{in_words(report)} {each}{once}."
        )
    return lines


def scales_taken(scoring: Mapping[str, Any]) -> list[str]:
    """The scales at which layers were looked at, where each has its own; ``scoring`` as in a report."""
    taken = {layer["scale"] for layer in scoring.get("layers", ()) if layer.get("scale")}
    if not taken:
        return []
    low, high = (find(taken, key=lambda text: float(text.partition(":")[2])) for find in (min, max))
    between = low if low == high else f"{low} to {high.partition(':')[2]}"
    return [f"Scale {scoring['settings']['scale']} came to {between}, layer by layer."]


def _alike(report: Report) -> str:
    """What was done to the controls too."""
    if report.removed.get("refitted"):
        return "reconstructed and distilled alike" if report.removed.get("distilled_epochs") else "reconstructed alike"
    how = report.removed.get("statistics", "re-estimated")
    return "BatchNorm re-estimated" if how == "re-estimated" else "BatchNorm treated alike"


def _settled(report: Report, measure: str) -> str:
    left = amount(measure, report.removed[f"{measure}_recalibrated"])
    how = report.removed.get("statistics", "re-estimated")
    if how == "matched":
        why = "" if report.data["stand_in"] else ", since those of the calibration samples did harm"
        return f"with BatchNorm statistics corrected for what removal changed{why}: {left}"
    if how == "kept":
        return "BatchNorm statistics were left alone"
    return f"with BatchNorm statistics re-estimated: {left}"


def _reconstructed(report: Report, measure: str) -> list[str]:
    if why := report.removed.get("not_refitted"):
        return [f"Nothing was refitted after removal: {why}."]
    refits = report.removed.get("refitted") or ()
    if not refits:
        return []
    taken = [refit for refit in refits if refit["ridge"] is not None]
    before, after = (sum(refit[side] for refit in taken) / max(1, len(taken)) for side in ("before", "after"))
    return [
        f"Reconstructed without labels: {in_words(report)} {amount(measure, report.removed[f'{measure}_repaired'])}; "
        f"{len(taken)} of {len(refits)} layers fitted to what they gave before on {report.removed['refit_samples']} "
        f"samples, their error on those held out {before:.2f} → {after:.2f} of the variance."
    ]


def _distilled(report: Report, measure: str) -> list[str]:
    if why := report.removed.get("not_distilled"):
        return [f"Blocks were not distilled: {why}."]
    epochs = report.removed.get("distilled_epochs", 0)
    if not epochs:
        return []
    left = f"{in_words(report)} {amount(measure, report.removed[f'{measure}_distilled'])}"
    return [f"Blocks distilled without labels, {epochs} epoch{'s' * (epochs != 1)} on the samples: {left}."]


def headline(report: Report) -> str:
    """What was removed, in one sentence."""
    plan = report.plan
    share = plan["channels_removed"] / max(1, plan["channels_before"])
    dead = f", {plan['dead_removed']} of them dead" if plan["dead_removed"] else ""
    return f"Removed {plan['channels_removed']} of {plan['channels_before']} channels ({100 * share:.0f} %{dead})."


def verdict(report: Report) -> str:
    """The headline, what was gained, and what it cost, in one sentence; of a faster file in fewer bits too."""
    macs = times(report.before.macs, report.after.macs).replace("smaller", "fewer").replace("larger", "more")
    gains = [f"{macs} MACs"] if macs else []
    gains += [*_faster(report, report.after, " at batch {}"), *_cost(report, report.after)]
    text = f"{headline(report).removesuffix('.')}: {', '.join(gains)}"
    better = {kind: each.measurement for kind, each in in_fewer_bits(report).items() if each.kept}
    if better:
        kind, small = min(better.items(), key=lambda item: item[1].latency[0].median_ms)
        size = times(report.before.file_bytes, small.file_bytes)
        parts = [*_faster(report, small), *([size] if size else []), *_cost(report, small)]
        text += f"; in {kind} {', '.join(parts)}"
    return f"{text}."


def _faster(report: Report, side: Measurement, where: str = "") -> list[str]:
    """How much faster one of the networks is than the original at the first batch size, if that was measured."""
    return [
        times(before.median_ms, after.median_ms, "faster") + where.format(before.batch)
        for before, after in zip(report.before.latency[:1], side.latency[:1], strict=True)
    ]


def _cost(report: Report, side: Measurement) -> list[str]:
    """What is left of what the report judges by in one of the networks, if that was measured."""
    measure = measure_of(report)
    first, last = getattr(report.before, measure), getattr(side, measure)
    if measure == "metric" and first is not None and last is not None:
        return [f"{in_words(report)}{whose(report)} {amount(measure, first)} → {amount(measure, last)}"]
    if measure == "accuracy" and first is not None and last is not None:
        chosen = report.budget is not None and report.budget.option == budgets.ACCURACY and not report.budget.apart
        moved = f"{100 * (last - first):+.1f} points" + " on the samples that chose it" * chosen
        return [f"accuracy{whose(report)} {percent(first)} → {percent(last)} ({moved})"]
    if side.agreement is not None:
        return [f"agreement with the original {percent(side.agreement)}"]
    if side.explained_variation is not None:
        return [f"explains {percent(side.explained_variation)} of the variation of the original's outputs"]
    return []


def over_budget(report: Report) -> str:
    """What to say first where the result is not within its budget; else empty."""
    return budgets.missed(report.budget, (report.before, report.after))


def warnings(report: Report) -> list[str]:
    """What a reader must not miss, but for the budget, with which text begins."""
    return [each for each in report.warnings if each != over_budget(report)]


def notes(report: Report) -> list[str]:
    """What a reader may want to know, each with what it is about."""
    about = {report.model.get("note"): "Model", report.data["note"]: "Data", report.data.get("pixels"): "Images"}
    return [f"{about[text]}: {text}" if text in about else text for text in report.notes]


def fewer_bits(report: Report) -> dict[str, str]:
    """What to think of each of the files in fewer bits; without those of which a warning says it."""
    return {kind: each.message for kind, each in in_fewer_bits(report).items() if each.kept}


@dataclass(frozen=True, kw_only=True)
class Remedies:
    """What to try in one case.

    Attributes:
        name: For links.
        case: When to try it, as a heading.
        why: What gave rise to it.
        steps: (what, command), in the order in which to try them.
    """

    name: str
    case: str
    why: str
    steps: tuple[tuple[str, str], ...]


def remedies(report: Report) -> list[Remedies]:
    """What to try, case by case; nothing where all is well."""
    measure = measure_of(report)
    fell = f"{in_words(report)} fell by more than 5 %."
    if measure != "metric":
        fell = f"{WHAT[measure]} fell by more than 5 points."
    slow = "The file is not as much faster as it has fewer multiply-accumulates."
    cases = (
        Remedies(name="advice", case="If that is too much lost", why=fell, steps=report.advice),
        Remedies(name="faster", case="If it should be faster", why=slow, steps=report.faster),
    )
    return [each for each in cases if each.steps]


def inputs(report: Report) -> str:
    """What goes into the network, and how images become that; empty where it is not known."""
    about = report.model.get("preprocessing", {})
    return feeding(about) or " × ".join(map(str, about.get("input_shape", ())))


def judges(report: Report) -> str:
    """What it was judged on."""
    seen = ", on which the network was trained" if whose(report) else ""
    source = report.data.get("held_out_source") or report.data["source"]
    return f"{report.data['samples']['evaluation']} held-out samples of {source}{seen}"


def tuning_line(finetune: Mapping[str, Any]) -> str:
    """How it was fine-tuned and which epoch was kept; empty where it was not."""
    if not finetune:
        return ""
    rate, judges = finetune.get("lr"), finetune.get("validation_samples")
    epochs = finetune["epochs"]
    line = f"{epochs} epoch{'s' * (epochs != 1)}" + (f", peak learning rate {rate:g}" if rate is not None else "")
    line += _ALTERED.get(finetune.get("augmentation", "none"), "")
    if distill := finetune.get("distill"):
        line += f", {percent(distill)} of the loss from the original's outputs"
    if finetune.get("epochs_run", epochs) < epochs:
        line += f"; stopped after {finetune['epochs_run']}"
    if (iterations := finetune.get("iterations", 1)) > 1:
        line += (
            f", after each of {iterations} iterations of pruning. Epoch {finetune['best_epoch']} of the last was kept"
        )
    else:
        line += f". Epoch {finetune['best_epoch']} was kept"
    if judges is None:
        return f"{line}."
    return f"{line}: best on {judges} samples set aside for that, which are not those of the results."


def parity(report: Report) -> str:
    """How closely the exported file follows the network, in one sentence."""
    check = report.export
    if check.stability is not None:
        return (
            f"ONNX Runtime against PyTorch on {check.samples} images: {percent(check.top1_agreement)} of the boxes are "
            f"the same (PyTorch alone keeps {percent(check.stability)} where pixels change by 0.00001 of their range), "
            f"their scores differ by {check.max_abs:.2g} at most."
        )
    same = "" if check.top1_agreement is None else f", same top-1 class on {percent(check.top1_agreement)}"
    return (
        f"ONNX Runtime against PyTorch on {check.samples} samples: largest difference {check.max_abs:.2g} "
        f"({check.max_rel:.2g} of the largest output){same}."
    )


def command_line(report: Report) -> str:
    """The command that made the run; empty where it was made from Python."""
    words = report.environment.get("command")
    return f"topocompress {shlex.join(words)}" if words else ""


def machine(report: Report) -> str:
    """Where it was measured."""
    environment = report.environment
    return f"{environment.get('processor', 'unknown')}, {environment.get('cores')} cores"


def feeding(preprocessing: Mapping[str, Any]) -> str:
    """How images become inputs, in one sentence without an end; empty where that is not known."""
    if not preprocessing or len(preprocessing["input_shape"]) != 3:  # other inputs come finished
        return ""
    channels, height, width = preprocessing["input_shape"]
    short = preprocessing.get("resize")
    how = f"short side to {short} pixels, centre crop" if short else "resized"
    how += f" ({preprocessing.get('interpolation', 'bilinear')})"
    mean, std = (", ".join(f"{value:g}" for value in preprocessing[name]) for name in ("mean", "std"))
    return f"{channels} × {height} × {width}, {how}, scaled to 0..1, mean {mean}, standard deviation {std}"
