"""What may be asked for: one rule, within limits. Needs neither numpy nor torch: bad options are refused at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from topocompress.errors import PlanError
from topocompress.runtime.arguments import check_fields

if TYPE_CHECKING:
    from topocompress.types import Direction


Allocation = Literal["auto", "uniform", "global"]
"""``uniform`` takes the same share of every group, ``global`` cuts where least is lost for what is saved.

``auto`` is ``global`` for scores that can be compared between layers, as far as that reaches, and else ``uniform``.
"""

BLOCK = 8
"""Channels that kernels compute at once: between two multiples of it a width costs what the larger does, or more."""

_ALLOCATIONS = get_args(Allocation)
_MOST_ALIGNED = 65_536
_LEAST_SIZE = 1000
"""Bytes below which no ONNX file of a network lies; a number below is one whose unit was forgotten."""

USUAL_SAMPLES = 1000
"""Calibration samples that a threshold on Betti numbers is stated for where no number of them is asked for."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What no rule may overstep.

    Attributes:
        min_channels: Channels that every group keeps at least.
        max_ratio: Largest share of a group's channels that may go; dead channels do not count. ``None`` is 0.5 for
            a threshold, and no ceiling for a ratio or a MACs target, which say themselves how much goes.
        round_to: Kept widths are multiples of it. ``auto`` takes the largest power of two up to 16 that is at most an
            eighth of the width: aligned widths run faster, yet narrow layers can still be cut. Where the allocation is
            global and a network has wide groups as well, its narrow ones keep whole blocks of 8 channels.
    """

    min_channels: int = 1
    max_ratio: float | None = None
    round_to: int | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.min_channels < 1:
            raise PlanError(f"--min-channels {self.min_channels}: at least one channel must stay")
        if self.max_ratio is not None and not 0 < self.max_ratio < 1:
            raise PlanError(f"--max-ratio {self.max_ratio:g} must lie between 0 and 1")
        if self.round_to != "auto" and not 1 <= self.round_to <= _MOST_ALIGNED:
            raise PlanError(f"--round-to {self.round_to}: give a positive number, 1 for no alignment, or auto")


QUALITY = ("max_accuracy_drop", "max_metric_drop")
"""Budgets of what may be lost: the smallest network within them is wanted, and every try is repaired and tuned."""
BUDGETS = (*QUALITY, "target_latency", "target_size")
"""Rules that say what the result must stay within; what to remove for it is found by trying."""

_EXAMPLES = {
    "max_betti": "300",
    "ratio": "0.5",
    "target_macs": "0.5",
    "max_accuracy_drop": "1.0",
    "max_metric_drop": "0.01",
    "target_latency": "0.6",
    "target_size": "2MB",
}
_SHARES = {"ratio", "target_macs", "target_latency"}


def check_rule(criterion: str, higher: Direction, **given: float | None) -> dict[str, float]:
    """Refuse a rule that cannot be used, before any work is spent; returns it as {name: value}.

    Args:
        criterion: Name of the criterion.
        higher: What its high scores mean.
        given: ``max_betti``, ``ratio``, ``target_macs``, ``max_accuracy_drop`` (points), ``max_metric_drop`` (in the
            metric's unit), ``target_latency`` (a share) and ``target_size`` (bytes); ``None`` where it was not asked
            for.

    Raises:
        PlanError: Not exactly one rule, a share outside 0..1, a negative value, or a threshold for a criterion whose
            high scores mean keep.
    """
    rule = {name: value for name, value in given.items() if value is not None}
    if len(rule) != 1:
        names = [option(name) for name in given or _EXAMPLES]
        both = f"; {' and '.join(option(name) for name in rule)} are given" if rule else ""
        raise PlanError(
            f"give exactly one of {', '.join(names[:-1])} and {names[-1]}{both}", hint="For example: --max-betti 300"
        )
    ((name, value),) = rule.items()
    example = f"For example: {option(name)} {_EXAMPLES[name]}"
    if name in _SHARES and not 0 < value < 1:
        raise PlanError(f"{option(name)} {value:g} must lie between 0 and 1", hint=example)
    if name == "max_accuracy_drop" and not 0 <= value < 100:
        raise PlanError(f"{option(name)} {value:g} must be points of accuracy, from 0 to 100", hint=example)
    if not 0 <= value < math.inf:
        raise PlanError(f"{option(name)} {value:g} must be 0 or more", hint=example)
    if name == "target_size" and value < _LEAST_SIZE:
        raise PlanError(f"--target-size of {value:g} bytes: no network is so small", hint=example)
    if name == "max_betti" and higher != "remove":
        raise PlanError(
            f"--max-betti needs a criterion whose high scores mean remove; {criterion!r} is not one",
            hint="Use --ratio or --target-macs with it.",
        )
    return rule


def option(name: str) -> str:
    """The command-line option of a rule."""
    return f"--{name.replace('_', '-')}"


def check_iterations(iterations: int, rule: Mapping[str, float], epochs: int) -> None:
    """Refuse iterations of pruning and fine-tuning that cannot be.

    Raises:
        PlanError: Fewer than one; several without fine-tuning, or within a budget of accuracy.
    """
    if iterations < 1:
        raise PlanError(f"--iterations {iterations}: at least one is needed")
    if iterations > 1 and epochs < 1:
        raise PlanError(
            f"--iterations {iterations} prunes and fine-tunes in turn, and there is no fine-tuning",
            hint="Add --finetune with some epochs for each iteration, or leave --iterations out.",
        )
    if iterations > 1 and (name := next((name for name in QUALITY if name in rule), None)):
        raise PlanError(
            f"{option(name)} tries several sizes, and --iterations would prune each of them iteratively",
            hint="Use --iterations with --target-macs, --ratio, --max-betti, --target-latency or --target-size.",
        )


def check_allocation(allocation: str, rule: Mapping[str, float], comparable: bool | None, criterion: str) -> None:
    """Refuse an allocation that there is not, or that the rule or the criterion has no use for.

    Args:
        allocation: See :data:`Allocation`.
        rule: From :func:`check_rule`; empty where there is none yet.
        comparable: Whether the criterion's scores can be compared between layers; ``None`` where that is not known.
        criterion: Its name.

    Raises:
        PlanError: As said.
    """
    if allocation not in _ALLOCATIONS:
        raise PlanError(f"--allocation {allocation[:80]!r} is unknown", hint="Choose auto, uniform or global.")
    if allocation != "global":
        return
    if name := next((name for name in ("ratio", "max_betti") if name in rule), None):
        raise PlanError(
            f"--allocation global needs a target, and {option(name)} is none",
            hint="Give --target-macs, for example 0.5, or a budget.",
        )
    if comparable is False:
        raise PlanError(
            f"--allocation global compares the scores of different layers, and those of {criterion!r} have no common "
            "unit",
            hint="Use persistence or taylor.",
        )


def check_samples(samples: int, max_betti: float | None) -> None:
    """Refuse a threshold that the number of samples cannot reach.

    Raises:
        PlanError: ``samples`` does not exceed ``max_betti``: β0 is at most N, so nothing could be above it.
    """
    if max_betti is not None and samples <= max_betti:
        fewer = f": {max_betti:g} among 1000 samples are about {max_betti * samples / 1000:.0f} among {samples}"
        raise PlanError(
            f"{samples} calibration samples cannot give a Betti number above {max_betti:g}",
            hint=f"Raise --samples above {max_betti:g} (default 1000) where there are as many, or lower --max-betti"
            f"{fewer if samples < 1000 else ''}.",
        )


TOPOLOGICAL = "topological"


def check_activation(activation: str | None, epochs: int) -> None:
    """Refuse an activation that is unknown, or that nothing would teach.

    Raises:
        PlanError: It is not ``topological``, or there is no fine-tuning.
    """
    if activation is None:
        return
    if activation != TOPOLOGICAL:
        raise PlanError(f"--activation {activation!r} is unknown", hint=f"Use --activation {TOPOLOGICAL}.")
    if epochs < 1:
        raise PlanError(
            f"--activation {TOPOLOGICAL} changes nothing by itself: fine-tuning learns how strongly activations fold",
            hint="Add --finetune with some epochs.",
        )


def check_block_epochs(epochs: int) -> None:
    """Refuse a number of epochs that there cannot be.

    Raises:
        PlanError: It is below 0.
    """
    if epochs < 0:
        raise PlanError(f"--distill-blocks {epochs}: epochs are counted from 0", hint="Give about 40, or leave it out.")


INT8 = "int8"


def check_quantize(kind: str | None) -> None:
    """Refuse a number format that there is not.

    Raises:
        PlanError: It is not ``int8``.
    """
    if kind not in {None, INT8}:
        raise PlanError(f"--quantize {kind!r} is unknown", hint=f"Use --quantize {INT8}.")
