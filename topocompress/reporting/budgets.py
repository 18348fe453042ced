"""What is said of a budget: how it was found, whether it was kept to, and what that rests on."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from topocompress.types import Budget, Measurement

LATENCY_NOISE = 0.05
"""Share of the original's latency by which two measurements may differ before it is worth a word."""

ACCURACY = "--max-accuracy-drop"
_OF_QUALITY = (ACCURACY, "--max-metric-drop")


def settled(budget: Budget | None, sides: tuple[Measurement, Measurement]) -> Budget | None:
    """The budget, and whether the finished network is within it as it was measured in the end."""
    if budget is None:
        return None
    reached = _reached(budget, sides)
    noise = LATENCY_NOISE if budget.option == "--target-latency" else 0.0
    return replace(budget, kept=reached is None or reached <= budget.limit + noise)


def missed(budget: Budget | None, sides: tuple[Measurement, Measurement]) -> str:
    """A sentence where the finished network lies outside its budget, and what that comes from; else empty."""
    if budget is None or budget.kept:
        return ""
    reached, limit = _reached(budget, sides) or 0.0, asked(budget)
    if budget.option == "--target-latency":
        return (
            f"{limit} is not kept to: measured again, the finished network takes {reached:.2f} of the original's "
            "latency. Timings on this machine differ from run to run."
        )
    tries = [probe for probe in budget.probes if probe.met]
    gone = f"{reached:.2f} points are" if budget.option == ACCURACY else f"{reached:.3g} of the metric is"
    largest = max(tries, key=lambda probe: probe.macs)
    who = f"the largest of the {len(tries)} networks that were" if len(tries) > 1 else "the only network that was"
    return (
        f"{limit} is not kept to: {gone} lost on the held-out samples by {who} within it on the {budget.samples} "
        f"samples that judged the tries, where it was {largest.value:.3g}. That one was written."
    )


def line(budget: Budget) -> str:
    """What was to be kept to, how it was found, and what samples were too few for."""
    judged, unsure = _judged(budget), _unsure(budget)
    if len(budget.probes) == 1:
        return f"{asked(budget)}: 1 try, within it{judged}; that network was taken."
    met = sum(probe.met for probe in budget.probes)
    count, was = budget.stepped_back, "was" if budget.stepped_back == 1 else "were"
    back = f", which {count} smaller {was} not on the held-out samples" if count else ""
    tries = f"{len(budget.probes)} tries, {met} of them within it{judged}"
    return f"{asked(budget)}: {tries}; of those the {_taken(budget)}{back}.{unsure}"


def _unsure(budget: Budget) -> str:
    """What more samples might allow; empty where they were not what was missing."""
    within = [each for each in budget.probes if not each.met and each.upper is not None and each.value <= budget.limit]
    if not within:
        return ""
    smallest = min(within, key=lambda probe: probe.macs)
    lost = f"{smallest.value:.3g} point{'s' * (smallest.value != 1)}" if smallest.value > 0 else "nothing"
    return (
        f" One with {smallest.macs:.2f} of the multiply-accumulates lost {lost} on these {budget.samples} samples, too "
        "few to be sure of others: more labelled images may allow it."
    )


def _judged(budget: Budget) -> str:
    """Who judged, and how sure that is; empty where no samples were needed."""
    if not budget.samples:
        return ""
    same = "held-out samples, on which the loss reads smaller than it is, since they chose the network"
    who = "samples kept for that" if budget.apart else same
    sure = any(probe.upper is not None for probe in budget.probes)
    bound = ", with 95 % confidence for others like these," if sure else ""
    return f"{bound} as judged on {budget.samples} {who}"


def asked(budget: Budget) -> str:
    """The option and its value."""
    limit = f"{budget.limit / 1e6:.3g}MB" if budget.option == "--target-size" else f"{budget.limit:g}"
    return f"{budget.option} {limit}"


def _taken(budget: Budget) -> str:
    return f"{'smallest' if budget.option in _OF_QUALITY else 'largest'} network was taken"


class Judged(Protocol):
    """What says how good a network is.

    Attributes:
        accuracy: In 0..1.
        metric: The user's own.
    """

    @property
    def accuracy(self) -> float | None:
        """See above."""

    @property
    def metric(self) -> float | None:
        """See above."""


def lost_of(option: str, before: Judged, after: Judged) -> float:
    """What is lost of a quality, in the unit of its budget: points of accuracy, or the metric's; 0 if not measured."""
    scale, name = (1.0, "metric") if option == "--max-metric-drop" else (100.0, "accuracy")
    first, last = getattr(before, name), getattr(after, name)
    # Rounded: 88.5 less 87.5 % would be more than a point.
    return 0.0 if first is None or last is None else round(scale * (first - last), 9)


def _reached(budget: Budget, sides: tuple[Measurement, Measurement]) -> float | None:
    """What the finished network reaches, in the budget's unit; ``None`` where that was not measured."""
    before, after = sides
    if budget.option == "--target-latency" and before.latency and after.latency:
        return after.latency[0].median_ms / before.latency[0].median_ms
    return lost_of(budget.option, before, after) if budget.option in _OF_QUALITY else None
