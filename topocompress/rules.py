"""What may be asked for: one rule, within limits. Needs neither numpy nor torch: bad options are refused at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from topocompress.errors import PlanError

if TYPE_CHECKING:
    from topocompress.types import Direction


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What no rule may overstep.

    Attributes:
        min_channels: Channels that every group keeps at least.
        max_ratio: Largest share of a group's channels that may go; dead channels do not count. ``None`` is 0.5 for
            a threshold, and no ceiling for a ratio or a MACs target, which say themselves how much goes.
        round_to: Kept widths are multiples of it. ``auto`` takes the largest power of two up to 16 that is at most an
            eighth of the width: aligned widths run faster, yet narrow layers can still be cut.
    """

    min_channels: int = 1
    max_ratio: float | None = None
    round_to: int | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        if self.min_channels < 1:
            raise PlanError(f"--min-channels {self.min_channels}: at least one channel must stay")
        if self.max_ratio is not None and not 0 < self.max_ratio < 1:
            raise PlanError(f"--max-ratio {self.max_ratio:g} must lie between 0 and 1")
        if self.round_to != "auto" and self.round_to < 1:
            raise PlanError(f"--round-to {self.round_to}: give a positive number, 1 for no alignment, or auto")


def check_rule(
    criterion: str,
    higher: Direction,
    *,
    max_betti: float | None = None,
    ratio: float | None = None,
    target_macs: float | None = None,
) -> dict[str, float]:
    """Refuse a rule that cannot be used, before any work is spent; returns it as {name: value}.

    Raises:
        PlanError: Not exactly one rule, a share outside 0..1, a negative threshold, or a threshold for a criterion
            whose high scores mean keep.
    """
    given = {"max_betti": max_betti, "ratio": ratio, "target_macs": target_macs}
    rule = {name: value for name, value in given.items() if value is not None}
    if len(rule) != 1:
        raise PlanError(
            "give exactly one of --max-betti, --ratio and --target-macs", hint="For example: --max-betti 300"
        )
    ((name, value),) = rule.items()
    option = f"--{name.replace('_', '-')}"
    if name != "max_betti" and not 0 < value < 1:
        raise PlanError(f"{option} {value:g} must lie between 0 and 1", hint=f"For example: {option} 0.5")
    if name == "max_betti" and not 0 <= value < math.inf:
        raise PlanError(f"{option} {value:g} must be 0 or more", hint=f"For example: {option} 300")
    if name == "max_betti" and higher != "remove":
        raise PlanError(
            f"--max-betti needs a criterion whose high scores mean remove; {criterion!r} is not one",
            hint="Use --ratio or --target-macs with it.",
        )
    return rule


def check_samples(samples: int, max_betti: float | None) -> None:
    """Refuse a threshold that the number of samples cannot reach.

    Raises:
        PlanError: ``samples`` does not exceed ``max_betti``: β0 is at most N, so nothing could be above it.
    """
    if max_betti is not None and samples <= max_betti:
        raise PlanError(
            f"{samples} calibration samples cannot give a Betti number above {max_betti:g}",
            hint=f"Raise --samples above {max_betti:g} (default 1000) or lower --max-betti.",
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
