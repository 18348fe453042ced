"""What to say when a run cost too much accuracy or won too little time, or a control did as well as its criterion."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from topocompress.planning.confidence import CONFIDENCE
from topocompress.planning.plan import removal_counts
from topocompress.planning.rules import BLOCK, BUDGETS
from topocompress.reporting.bottlenecks import short_batches
from topocompress.reporting.quantities import amount
from topocompress.surgery.activations import some
from topocompress.types import Control, Measurement, PruningPlan, Scores

_FLAGS = {"--force", "--distill", "--no-reconstruct", "--unlabelled", "--trained-on", "--not-trained-on"}
_BLOCKS_SHARE = 0.8
"""Speed-up divided by MACs reduction that widths in whole blocks come to (docs/budgets.md)."""
TOLERATED_LOSS = 0.05
"""Accuracy, or likeness to the original, in 0..1, that may be lost before advice is given."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What advice depends on.

    Attributes:
        command: The command line as given, without the program's name.
        labelled: Whether the data has labels, so that fine-tuning is possible.
        classifies: Whether the network gives one class per image, so that labelled images would make it possible.
        teachable: Whether the images are the user's own and the network could learn from the original on them.
        finetune: Epochs of fine-tuning done.
        max_betti: The threshold, if that was the rule, as it was for the samples that were scored.
        scaled: Whether it had been scaled to them, as another one would be where no number of samples is asked for.
        left: Accuracy (or the user's metric) before fine-tuning, held against that of controls; ``None`` if unknown.
    """

    command: Sequence[str]
    labelled: bool
    classifies: bool = True
    teachable: bool = False
    finetune: int
    max_betti: float | None
    scaled: bool = False
    left: float | None = None


def loss(before: Measurement, after: Measurement) -> float:
    """Accuracy lost in 0..1, or where there are no labels what is lacking to the original's outputs.

    Of the user's own metric it is what is lost of the original's size.
    """
    if before.metric is not None and after.metric is not None:
        return (before.metric - after.metric) / max(abs(before.metric), 1e-12)
    if before.accuracy is not None and after.accuracy is not None:
        return before.accuracy - after.accuracy
    likeness = after.explained_variation if after.agreement is None else after.agreement
    return 1.0 - (1.0 if likeness is None else likeness)


def advise(
    situation: Situation, scores: Scores, plan: PruningPlan, controls: Sequence[Control] = ()
) -> tuple[tuple[str, str], ...]:
    """What to try, in order, each with its exact command; no criterion that this run has measured to do worse."""
    found: list[tuple[str, str]] = []
    if "--no-reconstruct" in situation.command:
        found.append(("Let layers be refitted, which takes no labels", _with(situation, {"--no-reconstruct": None})))
    if situation.labelled:
        epochs = max(5, 2 * situation.finetune)
        what = f"Fine-tune for {epochs} epochs" + (" instead" if situation.finetune else "")
        found.append((what, _with(situation, {"--finetune": str(epochs)})))
    elif situation.teachable:
        epochs = max(5, 2 * situation.finetune)
        what = f"Let it learn from the original on your images for {epochs} epochs" + " instead" * bool(
            situation.finetune
        )
        found.append((what, _with(situation, {"--distill": "", "--finetune": str(epochs)})))
    if situation.classifies and "--distill-blocks" not in situation.command:
        what = "Let blocks learn from the original for a few minutes, which takes no labels"
        found.append((what, _with(situation, {"--distill-blocks": "40"})))
    if situation.classifies and not situation.labelled:
        what = "Fine-tune on your own labelled images (one folder per class)"
        others = dict.fromkeys(("--unlabelled", "--trained-on", "--not-trained-on"))  # said of the images of this run
        found.append((what, _with(situation, {**others, "--data": "imagefolder:PATH", "--finetune": "5"})))
    whole = sum(entry.width for entry in plan.groups if not entry.protected)
    if situation.max_betti is not None:
        above = np.concatenate([layer.values for layer in scores.layers.values()])
        above = above[above > situation.max_betti]
        if len(above) > 1:
            higher = int(np.median(above))
            count = sum(row[0] for row in removal_counts(scores, [higher]).values())
            what = (
                f"Raise the threshold: {count} filters are above {higher}, {len(above)} above {situation.max_betti:g}"
            )
            samples = {"--samples": str(scores.samples)} if situation.scaled else {}
            found.append((what, _with(situation, {"--max-betti": str(higher), **samples})))
    share = f"{max(0.01, plan.removed / whole):.2f}"  # two digits, and never the refused 0.00
    other = _other(plan.criterion, situation.left, controls)
    own = dict.fromkeys(("--max-betti", "--scale", "--dims", "--orientation", "--backend"))  # of betti alone
    changes: dict[str, str | None] = {**own, "--criterion": other}
    if situation.max_betti is not None:
        changes["--ratio"] = share
    if other:
        what = f"Choose by another criterion ({other}) at the same share of channels"
        found.append((what, _with(situation, changes)))
    return tuple(found)


def hasten(
    situation: Situation, plan: PruningPlan, sides: tuple[Measurement, Measurement]
) -> tuple[tuple[str, str], ...]:
    """What to try where latency fell less than multiply-accumulates, each with its exact command.

    Never what the run was given, and no other goal in place of a budget.
    """
    if not situation.command:
        return ()
    found: list[tuple[str, str]] = []
    between = [entry.root for entry in plan.groups if entry.remove and entry.kept % BLOCK]
    if between and short_batches(*sides, share=_BLOCKS_SHARE) and not _given(situation, "--round-to"):
        what = f"Keep widths that are multiples of {BLOCK}, which run faster; not so are {some(between)}"
        found.append((what, _with(situation, {"--round-to": str(BLOCK)})))
    if not short_batches(*sides):
        return tuple(found)
    if between and plan.rule.get("allocation") == "global" and not _given(situation, "--allocation"):
        what = "Take the same share of every layer, so that none becomes too narrow to be fast"
        found.append((what, _with(situation, {"--allocation": "uniform"})))
    if not any(name in plan.rule for name in BUDGETS):
        taken = sides[1].latency[0].median_ms / sides[0].latency[0].median_ms
        # More than halfway to the share of the multiply-accumulates is often out of reach.
        goal = f"{min(0.95, (taken + sides[1].macs / sides[0].macs) / 2):.2f}"
        rules: dict[str, str | None] = dict.fromkeys(("--max-betti", "--ratio", "--target-macs"))
        chosen = {} if situation.max_betti is None else {"--criterion": plan.criterion}  # which the threshold implied
        what = f"Ask for the time itself, such as {goal} of the original's in place of {taken:.2f}"
        found.append((what, _with(situation, {**rules, **chosen, "--target-latency": goal})))
    return tuple(found)


def _given(situation: Situation, option: str) -> bool:
    """Whether the command has an option."""
    return any(word.partition("=")[0] == option for word in situation.command)


def _other(criterion: str, left: float | None, controls: Sequence[Control]) -> str:
    """A criterion to try: the best there is, or a control that kept more in this run; else none."""
    if criterion != "persistence":
        return "persistence"
    better = [each for each in controls if left is not None and each.criterion != "random" and each.mean > left]
    return max(better, key=lambda each: each.mean).criterion if better else ""


def outdone(
    criterion: str, accuracy: float | None, controls: Sequence[Control], measure: str = "accuracy", *, tuned: bool
) -> str:
    """One sentence where a control kept as much as the criterion, before fine-tuning if there is any; else empty."""
    better = [each.criterion for each in controls if accuracy is not None and each.mean >= accuracy]
    if not better:
        return ""
    when = " before fine-tuning" if tuned else ""
    return (
        f"On this model {' and '.join(better)} pruning to the same widths did as well or better{when}: "
        f"{criterion} {amount(measure, accuracy)}, {_kept_by(controls, measure)}."
    )


def ahead(
    criterion: str, accuracy: float | None, controls: Sequence[Control], measure: str = "accuracy", *, tuned: bool
) -> str:
    """What the criterion kept where that is more than every control, before fine-tuning if there is any; else empty.

    Who is not behind with the confidence :data:`~topocompress.planning.confidence.CONFIDENCE` is named.
    """
    if accuracy is None or not controls or outdone(criterion, accuracy, controls, measure, tuned=tuned):
        return ""
    kept = amount(measure, accuracy)
    found = f"Before fine-tuning {criterion} kept {kept}, the same widths by {_kept_by(controls, measure)}."
    if not tuned:
        found = f"At these widths {criterion} kept {kept}, {_kept_by(controls, measure)}."
    least = NormalDist().inv_cdf(CONFIDENCE)
    close = [
        each.criterion for each in controls if each.error is not None and accuracy - each.mean < least * each.error
    ]
    return found + f" On these samples that is no clear difference from {' and '.join(close)}." * bool(close)


def _kept_by(controls: Sequence[Control], measure: str) -> str:
    return " and ".join(f"{control.criterion} {amount(measure, control.mean)}" for control in controls)


def _with(situation: Situation, changes: dict[str, str | None]) -> str:
    """The command with some options set or, where the value is ``None``, left out; it replaces this run.

    A flag has the value ``""``.
    """
    words = list(situation.command)
    for option, value in {**changes, "--force": None}.items():
        for index, word in enumerate(words):
            if word == option:
                del words[index : index + (1 if option in _FLAGS else 2)]
                break
            if word.startswith(f"{option}="):
                del words[index]
                break
        if value is not None:
            words += [option, value] if value else [option]
    return "topocompress " + shlex.join([*words, "--force"])
