"""What is taken where nothing is said. Loads neither torch nor numpy."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from topocompress.data.checks import has_no_labels
from topocompress.errors import PlanError
from topocompress.planning.rules import QUALITY, option
from topocompress.training.recipe import no_teacher

if TYPE_CHECKING:
    from topocompress.criteria.base import Criterion
    from topocompress.workflows.options import Recovery, Removal

MAX_ACCURACY_DROP = 1.0
"""Points of accuracy that may go where no rule is given."""

AUTO: Literal["auto"] = "auto"
"""For whatever suits the network and the rule."""

JUDGES = 2000
"""Samples that judge a quality within a budget."""


def criterion_for(asked: str | Criterion, removal: Removal) -> str | Criterion:
    """The criterion: Betti numbers for a threshold on them, else what keeps most without labels.

    That is ``persistence``, see docs/research/criteria.md and docs/reconstruction.md.
    """
    if asked != AUTO:
        return asked
    return "persistence" if removal.max_betti is None else "betti"


def judges_for(removal: Removal) -> int:
    """How many samples to load beside the others, to judge a quality within a budget."""
    return JUDGES if any(name in removal.rule for name in QUALITY) else 0


def settled_rule(removal: Removal, model: str, data: str | None, *, unlabelled: bool = False) -> tuple[Removal, str]:
    """What to remove where no rule is given: what costs a point of accuracy, if that can be measured.

    Args:
        removal: What was asked for.
        model: The model as the user wrote it, for the examples.
        data: The data as the user wrote it.
        unlabelled: Whether its labels are to be left out.

    Returns:
        What to remove, and a sentence on what was taken; empty where a rule was given.

    Raises:
        PlanError: There are no labels to measure accuracy by, and it was asked for or nothing else was.
    """
    asked = removal.rule
    judged = not asked or any(name in asked for name in QUALITY)
    if judged and data is None and model != "digits":
        what = f"{option(next(iter(asked)))} needs labelled data" if asked else "it is not said how much to remove"
        raise PlanError(f"{what}, and no --data is given", hint=_examples(model, ""))
    if "max_metric_drop" not in asked and judged and (unlabelled or has_no_labels(data)):
        what = "--max-accuracy-drop needs labels" if asked else "it is not said how much to remove"
        why = "--unlabelled leaves labels out" if unlabelled else f"{data} has no class folders, so no labels"
        raise PlanError(f"{what}, and {why}", hint=_examples(model, str(data)))
    if asked:
        return removal, ""
    found = replace(removal, max_accuracy_drop=MAX_ACCURACY_DROP)
    return found, f"No rule was given: --max-accuracy-drop {MAX_ACCURACY_DROP:g} is taken."


def check_teachable(recovery: Recovery, data: str | None) -> None:
    """Refuse fine-tuning by labels on images that surely have none, before any is read.

    Raises:
        DataError: As said.
    """
    if recovery.epochs and not recovery.recipe.distill and recovery.loss is None and has_no_labels(data):
        raise no_teacher(f", and {data} has no class folders")


def _examples(model: str, data: str) -> str:
    begin = f"topocompress prune {shlex.quote(model)}"
    given = f" --data {shlex.quote(data)}" if data else ""
    lines = [
        (f"{begin} --data PHOTOS --max-accuracy-drop 1", "a folder of images for each class in PHOTOS"),
        (f"{begin}{given} --target-latency 0.6", "six tenths of the time"),
        (f"{begin}{given} --target-macs 0.5", "half of the multiply-accumulates"),
    ]
    wide = max(len(line) for line, _ in lines)
    return "\n".join(["Say what you want, for example:", *(f"  {line:{wide}}   # {why}" for line, why in lines)])
