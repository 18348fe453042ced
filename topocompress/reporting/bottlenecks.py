"""Why a network is not as much faster as it is smaller. Pure: from costs and times to sentences."""

from __future__ import annotations

from collections.abc import Mapping

from topocompress.planning.rules import BLOCK
from topocompress.types import LayerCost, Measurement, NodeTimes

EXPECTED_SHARE = 0.6
"""Speed-up divided by MACs reduction, below which a run warns."""

_WORTH_NAMING = 0.05
_NAMES = 3
_UNALIGNED = f"layers with widths that are no multiple of {BLOCK}"
_NARROW = f"narrow layers, which --round-to auto cuts in steps below {BLOCK}"
_DEPTHWISE = "depthwise layers"
_UNTOUCHED = "layers that keep their MACs"
_OTHERS = "other layers"
_LAYOUT = "changes of memory layout between layers"
_REST = "operations of no one layer (activations, pooling, sums, attention)"


def short_batches(before: Measurement, after: Measurement, share: float = EXPECTED_SHARE) -> dict[int, float]:
    """Batch size → speed-up, where speed-up / MACs reduction is below ``share``.

    Both are before divided by after: of the median times, and of the MACs.
    """
    fewer = before.macs / max(1, after.macs)
    return {
        first.batch: faster
        for first, second in zip(before.latency, after.latency, strict=True)
        if (faster := first.median_ms / second.median_ms) < share * fewer
    }


def warning(
    short: Mapping[int, float],
    fewer: float,
    costs: tuple[Mapping[str, LayerCost], Mapping[str, LayerCost]],
    times: tuple[NodeTimes, NodeTimes],
    *,
    auto: bool = False,
) -> str:
    """What is said of a network that is not as much faster as it is smaller, and which layers hold it back.

    Every part of it is held against the MACs reduction of the whole: had its time fallen as much, it would take its
    time before divided by that. What it takes beyond is missing time, and the parts add up to all of it.

    Args:
        short: From :func:`short_batches`; not empty.
        fewer: MACs before divided by MACs after.
        costs: Layer → cost, before and after.
        times: Where the time goes at the first of the batch sizes, before and after.
        auto: Whether widths were rounded by ``--round-to auto``, which leaves narrow layers between the multiples.
    """
    first = next(iter(short))
    each = " and ".join(f"{faster:.2f}× as fast at batch {batch}" for batch, faster in short.items())
    text = f"With {fewer:.2f}× fewer MACs the file is {each}: less than {100 * EXPECTED_SHARE:.0f} % of the reduction."
    causes = _causes(fewer, costs, times, _NARROW if auto else _UNALIGNED)
    whole = sum(missing for missing, _ in causes.values())
    parts = [
        f"{100 * missing / whole:.0f} % {cause}{f': {names}' if names else ''}"
        for cause, (missing, names) in sorted(causes.items(), key=lambda item: -item[1][0])
        if missing >= _WORTH_NAMING * whole
    ]
    if not parts:
        return text
    return f"{text} Where the missing time goes at batch {first}, by ONNX Runtime's profile: {'; '.join(parts)}."


def _causes(
    fewer: float,
    costs: tuple[Mapping[str, LayerCost], Mapping[str, LayerCost]],
    times: tuple[NodeTimes, NodeTimes],
    unaligned: str,
) -> dict[str, tuple[float, str]]:
    """Cause → missing milliseconds (more than 0) and the layers that have most of it.

    ``unaligned`` is what to call layers between multiples of :data:`~topocompress.planning.rules.BLOCK`.
    """
    before, after = times
    layers: dict[str, list[tuple[float, str]]] = {}
    for name, milliseconds in after.layers.items():
        cause, label = _cause(name, costs[0].get(name), costs[1].get(name), unaligned)
        layers.setdefault(cause, []).append((milliseconds - before.layers.get(name, 0.0) / fewer, label))
    missing = {cause: (sum(each for each, _ in found), _worst(found)) for cause, found in layers.items()}
    missing[_LAYOUT] = (after.layout - before.layout / fewer, "")
    missing[_REST] = (after.rest - before.rest / fewer, "")
    return {cause: found for cause, found in missing.items() if found[0] > 0}


def _cause(name: str, before: LayerCost | None, after: LayerCost | None, unaligned: str) -> tuple[str, str]:
    """Why a layer may be slow, and how it is called: unaligned widths in brackets."""
    if before is None or after is None:
        return _OTHERS, name
    changed = [(after.inputs, before.inputs), (after.outputs, before.outputs)]
    if any(new != old and new % BLOCK for new, old in changed):
        return unaligned, f"{name} ({f'{after.inputs} → ' if after.inputs else ''}{after.outputs})"
    if after.outputs and not after.inputs:
        return _DEPTHWISE, name
    return (_UNTOUCHED if after.macs == before.macs else _OTHERS), name


def _worst(found: list[tuple[float, str]]) -> str:
    """The layers with most missing time, and how many more have some."""
    slow = [label for missing, label in sorted(found, key=lambda each: -each[0]) if missing > 0]
    more = len(slow) - _NAMES
    return ", ".join(slow[:_NAMES]) + (f" and {more} more" if more > 0 else "")
