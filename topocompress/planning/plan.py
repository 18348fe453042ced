"""Scores + groups + rule → :class:`~topocompress.types.PruningPlan`. Pure numpy, no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypedDict

import numpy as np

from topocompress.errors import PlanError
from topocompress.planning.allocation import check_scores, least_loss
from topocompress.planning.ranking import RankedGroup, rank
from topocompress.planning.rules import Allocation, Limits, check_rule, check_samples
from topocompress.types import ChannelGroup, GroupPlan, LayerCost, PruningPlan, Scores
from topocompress.types.reasons import Kind, Reason

DEFAULT_MAX_RATIO = 0.5
_BISECTIONS = 40


def make_plan(
    scores: Scores,
    groups: Sequence[ChannelGroup],
    costs: Mapping[str, LayerCost],
    *,
    max_betti: float | None = None,
    ratio: float | None = None,
    target_macs: float | None = None,
    limits: Limits | None = None,
    allocation: Allocation = "auto",
) -> PruningPlan:
    """Decide which channels go. Exactly one rule must be given.

    A unit of coupled channels is judged by the mean score of its filters. Dead units go first under every rule.

    Args:
        scores: Scores of the filters; layers that are missing protect their group.
        groups: Channel groups of the same model.
        costs: Multiply-accumulates per layer of the same model.
        max_betti: Remove the units whose score lies above this; for criteria with ``higher="remove"``.
        ratio: Remove this share of every group's channels, 0..1.
        target_macs: Remove the same share of every group's channels, as small as leaves this share of the MACs, 0..1.
        limits: Floor, ceiling and alignment.
        allocation: With ``target_macs``: ``global`` takes not the same share of every group but cuts where the scores
            say that least is lost for what is saved; see :mod:`topocompress.planning.allocation`. ``auto`` does so
            where scores of different layers can be compared, as far as it reaches.

    Raises:
        PlanError: The rule is not usable, removes nothing or everything, or cannot reach its target.
    """
    bounds = limits or Limits()
    rule = check_rule(scores.criterion, scores.higher, max_betti=max_betti, ratio=ratio, target_macs=target_macs)
    check_scores(allocation, scores, target_macs)
    chosen = None
    reasons = {group.root: _reason(group, scores) for group in groups}
    if not (ranked := [rank(group, scores) for group in groups if not reasons[group.root]]):
        raise nothing_to_prune(reasons)
    besides = f"; besides, these stay whole: {why}" if (why := kept_whole(reasons)) else ""
    if max_betti is not None:
        removals = _by_threshold(ranked, scores, max_betti, bounds)
    elif ratio is not None:
        removals = _by_ratio(ranked, ratio, bounds)
    else:
        whole, target = sum(cost.macs for cost in costs.values()), float(target_macs or 0)
        if allocation == "global" or (allocation == "auto" and scores.comparable):
            chosen = least_loss(ranked, lambda gone: predict_macs(costs, groups, gone), int(target * whole), bounds)
        removals = chosen or _by_macs(ranked, groups, costs, target, bounds, besides, reachable=allocation != "global")
    if not any(removals.values()):
        raise _nothing_removed(ranked, scores, max_betti, bounds, besides)
    entries = {entry.group.root: entry for entry in ranked}
    return PruningPlan(
        model=scores.model,
        rule={
            **rule,
            "min_channels": bounds.min_channels,
            "max_ratio": _ceiling(bounds, max_betti),
            "round_to": bounds.round_to,
            **({"allocation": "global"} if chosen else {}),
        },
        criterion=scores.criterion,
        groups=tuple(
            _group_plan(group, entries[group.root], removals[group.root], max_betti)
            if group.root in entries
            else GroupPlan(
                root=group.root,
                width=group.width,
                part=group.part,
                coupled=group.coupled,
                protected=reasons[group.root],
                **coupled_widths(group, ()),
            )
            for group in groups
        ),
        macs_before=sum(cost.macs for cost in costs.values()),
        macs_after=predict_macs(costs, groups, removals),
    )


def nothing_to_prune(reasons: Mapping[str, str]) -> PlanError:
    """The error of a model whose every group stays whole; ``reasons`` as in :func:`kept_whole`."""
    why = kept_whole(reasons)
    return PlanError(
        "nothing in this model can be pruned: "
        + (f"every group of channels stays whole ({why})" if why else "it has no convolution")
    )


def kept_whole(reasons: Mapping[str, str]) -> str:
    """Why groups stay whole, for the reader: each reason once, with a few layers and how many more there are.

    Args:
        reasons: Root layer → why its group stays whole; groups without a reason are left out.
    """
    roots: dict[str, list[str]] = {}
    for root, reason in reasons.items():
        if reason:
            roots.setdefault(reason.removesuffix(f": {root}"), []).append(root)
    return "; ".join(f"{reason}: {_few(names)}" for reason, names in roots.items())


class CoupledWidths(TypedDict):
    """Layer → (before, after); see :class:`~topocompress.types.GroupPlan`."""

    filters: dict[str, tuple[int, int]]
    readers: dict[str, tuple[int, int]]


def coupled_widths(group: ChannelGroup, gone: Collection[int]) -> CoupledWidths:
    """What becomes of the layers of a group that loses the units ``gone``."""

    def both(counts: Sequence[int]) -> tuple[int, int]:
        return sum(counts), sum(count for unit, count in enumerate(counts) if unit not in gone)

    return CoupledWidths(
        filters={name: both([len(channels) for channels in units]) for name, units in group.filters.items()},
        readers={name: both(counts) for name, counts in group.readers.items()},
    )


def removal_counts(scores: Scores, thresholds: Sequence[float]) -> dict[str, list[int]]:
    """How many filters of each layer lie above each threshold (below it where a higher score means keep)."""
    sign = 1 if scores.higher == "remove" else -1
    return {
        name: [int((sign * layer.values > sign * threshold).sum()) for threshold in thresholds]
        for name, layer in scores.layers.items()
    }


def predict_macs(
    costs: Mapping[str, LayerCost], groups: Sequence[ChannelGroup], removals: Mapping[str, Sequence[int]]
) -> int:
    """Multiply-accumulates for one sample once some units are gone.

    Args:
        costs: Cost per layer before.
        groups: Channel groups.
        removals: Root layer → indices of the units removed.
    """
    outputs = {name: cost.outputs for name, cost in costs.items()}
    inputs = {name: cost.inputs for name, cost in costs.items()}
    total = 0.0
    for group in groups:
        for unit in removals.get(group.root, ()):
            total -= group.products[unit] if group.products else 0.0
            for name, channels in group.filters.items():
                if name in outputs:
                    outputs[name] -= len(channels[unit])
            for name, counts in group.readers.items():
                if inputs.get(name):
                    inputs[name] -= counts[unit]
    for name, cost in costs.items():
        share = outputs[name] / cost.outputs if cost.outputs else 1.0
        share *= inputs[name] / cost.inputs if cost.inputs else 1.0
        total += cost.fixed + (cost.macs - cost.fixed) * share
    return round(total)


def _reason(group: ChannelGroup, scores: Scores) -> str:
    """Why a group stays whole; empty if it can be pruned."""
    if group.protected:
        return group.protected
    if not any(layer in scores.layers for layer in group.filters):
        return Reason(Kind.UNSCORED)
    if len(group.units) < 2:
        return Reason(Kind.TOGETHER)
    return ""


def _ceiling(limits: Limits, max_betti: float | None) -> float | None:
    return DEFAULT_MAX_RATIO if limits.max_ratio is None and max_betti is not None else limits.max_ratio


def _by_threshold(
    ranked: Sequence[RankedGroup], scores: Scores, threshold: float, limits: Limits
) -> dict[str, tuple[int, ...]]:
    if scores.criterion == "betti":
        check_samples(scores.samples, threshold)
    alive = np.concatenate([entry.priority[~entry.dead] for entry in ranked])
    if len(alive) and (alive > threshold).all():
        raise PlanError(
            f"every one of the {len(alive)} channels scores above {threshold:g} (lowest {alive.min():g}): "
            "the rule would remove everything",
            hint=f"--max-betti {np.quantile(alive, 0.9):.0f} would remove about 10 % of them.",
        )
    result = {}
    for entry in ranked:
        wanted = min(entry.above(threshold), entry.most(_ceiling(limits, threshold)))
        keep = entry.aligned(entry.units - wanted, limits)
        result[entry.group.root] = entry.first(entry.units - keep)
    return result


def _by_ratio(ranked: Sequence[RankedGroup], ratio: float, limits: Limits) -> dict[str, tuple[int, ...]]:
    result = {}
    for entry in ranked:
        step = entry.step(limits)
        nearest = step * round(entry.units * (1 - ratio) / step)  # so that the ratio is met on average
        keep = entry.aligned(max(nearest, entry.units - entry.most(limits.max_ratio)), limits)
        result[entry.group.root] = entry.first(entry.units - keep)
    return result


def _by_macs(
    ranked: Sequence[RankedGroup],
    groups: Sequence[ChannelGroup],
    costs: Mapping[str, LayerCost],
    target: float,
    limits: Limits,
    besides: str,
    *,
    reachable: bool,
) -> dict[str, tuple[int, ...]]:
    whole = sum(cost.macs for cost in costs.values())

    def macs(ratio: float) -> int:
        return predict_macs(costs, groups, _by_ratio(ranked, ratio, limits))

    if macs(1.0) > target * whole or not reachable:
        raise PlanError(
            f"--target-macs {target:g} is out of reach: {macs(1.0) / whole:.3f} of the MACs stay at the least{besides}",
            hint="Raise it, or relax --min-channels, --max-ratio, --round-to or --ignore.",
        )
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if macs(middle) <= target * whole else (middle, high)
    # Alignment makes many groups shrink at the same share. Those that need not, do not.
    found, before = _by_ratio(ranked, high, limits), _by_ratio(ranked, low, limits)
    for root, units in before.items():
        if predict_macs(costs, groups, {**found, root: units}) <= target * whole:
            found[root] = units
    return found


def _group_plan(group: ChannelGroup, entry: RankedGroup, units: Sequence[int], max_betti: float | None) -> GroupPlan:
    wanted = len(units) if max_betti is None else entry.above(max_betti)
    return GroupPlan(
        root=group.root,
        width=group.width,
        remove=tuple(sorted(channel for unit in units for channel in group.units[unit])),
        dead=tuple(sorted(channel for unit in units if entry.dead[unit] for channel in group.units[unit])),
        above=sum(len(group.units[unit]) for unit in entry.first(wanted)),
        part=group.part,
        coupled=group.coupled,
        also=group.also,
        **coupled_widths(group, set(units)),
    )


def _nothing_removed(
    ranked: Sequence[RankedGroup], scores: Scores, max_betti: float | None, limits: Limits, besides: str
) -> PlanError:
    what = "the plan removes nothing: "
    ratio = "" if (most := _ceiling(limits, max_betti)) is None else f"--max-ratio {most:g}, "
    bounds = f"--min-channels {limits.min_channels}, {ratio}--round-to {limits.round_to}"
    if max_betti is None:
        widths = _few([f"{entry.group.root} ({entry.group.width} channels)" for entry in ranked])
        return PlanError(
            f"{what}within {bounds} no group can lose so small a share: {widths}{besides}",
            hint="Ask for a larger share, or give --round-to 1.",
        )
    held = {entry.group.root: count for entry in ranked if (count := entry.above(max_betti))}
    if held:
        where = _few([f"{root} ({count})" for root, count in held.items()])
        return PlanError(
            f"{what}{sum(held.values())} channels score above {max_betti:g}, but {bounds} keep them all: "
            f"{where}{besides}",
            hint="Give --round-to 1 or a lower --max-betti.",
        )
    values = np.concatenate([entry.priority for entry in ranked])
    return PlanError(
        f"{what}no score of {scores.criterion!r} is above {max_betti:g} (highest {values.max():g}){besides}",
        hint=f"--max-betti {np.quantile(values, 0.9):.0f} would remove about 10 % of the channels.",
    )


def _few(names: Sequence[str], count: int = 3) -> str:
    more = len(names) - count
    return ", ".join(names[:count]) + (f" and {more} more" if more > 0 else "")
