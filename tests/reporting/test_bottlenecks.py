"""By hand: everything that is said can be added up on paper."""

import dataclasses

import pytest

from topocompress.reporting.bottlenecks import short_batches, warning
from topocompress.types import Latency, LayerCost, Measurement, NodeTimes


def side(macs, *medians):
    latency = (
        Latency(batch=batch, median_ms=median, p95_ms=99.0, runs=9)
        for batch, median in zip((1, 8), medians, strict=False)
    )
    return Measurement(parameters=1, macs=macs, latency=tuple(latency))


@pytest.mark.parametrize(
    ("before", "after", "short"),
    [
        (side(200, 10.0, 80.0), side(100, 5.0, 40.0), {}),  # twice as fast with half the MACs
        (side(200, 12.0, 80.0), side(100, 10.0, 40.0), {}),  # 1.2 of 2 is just enough
        (side(200, 11.0, 80.0), side(100, 10.0, 40.0), {1: 1.1}),
        (side(200, 8.0, 80.0), side(100, 10.0, 160.0), {1: 0.8, 8: 0.5}),
        (side(110, 10.0), side(100, 10.0), {}),  # 1 of 1.1
        (side(200), side(100), {}),
    ],
)
def test_where_the_speed_up_is_below_60_percent_of_the_macs_reduction(before, after, short):
    assert short_batches(before, after) == pytest.approx(short)


def cost(macs, inputs, outputs):
    return LayerCost(macs=macs, inputs=inputs, outputs=outputs)


BEFORE = {"conv": cost(80, 16, 64), "deep": cost(20, 0, 64), "fc": cost(10, 64, 10), "good": cost(90, 64, 64)}
AFTER = {"conv": cost(40, 16, 37), "deep": cost(10, 0, 32), "fc": cost(10, 64, 10), "good": cost(40, 64, 32)}
TIMES = (
    NodeTimes(layers={"conv": 10.0, "deep": 4.0, "fc": 2.0, "good": 6.0}, layout=0.0, rest=4.0),
    NodeTimes(layers={"conv": 11.0, "deep": 3.0, "fc": 2.0, "good": 3.0}, layout=1.0, rest=3.0),
)


def test_the_missing_time_is_shared_out_by_cause():
    # Half of the time before would be 5, 2, 1, 3, 0 and 2 ms: missing are 6, 1, 1, 0, 1 and 1 ms.
    assert warning({1: 1.1, 8: 0.95}, 2.0, (BEFORE, AFTER), TIMES) == (
        "With 2.00× fewer MACs the file is 1.10× as fast at batch 1 and 0.95× as fast at batch 8: less than 60 % of "
        "the reduction. Where the missing time goes at batch 1, by ONNX Runtime's profile: "
        "60 % layers with widths that are no multiple of 8: conv (16 → 37); 10 % depthwise layers: deep; "
        "10 % layers that keep their MACs: fc; 10 % changes of memory layout between layers; "
        "10 % operations of no one layer (activations, pooling, sums, attention)."
    )


def test_widths_that_auto_chose_are_called_narrow_and_not_blamed():
    text = warning({1: 1.1}, 2.0, (BEFORE, AFTER), TIMES, auto=True)
    assert "60 % narrow layers, which --round-to auto cuts in steps below 8: conv (16 → 37);" in text
    assert "no multiple of 8" not in text


def test_a_share_of_ones_own_may_be_asked_for():
    assert short_batches(side(200, 14.0, 80.0), side(100, 10.0, 40.0), share=0.8) == pytest.approx({1: 1.4})


def test_causes_below_5_percent_are_left_out():
    after = dataclasses.replace(TIMES[1], layers={**TIMES[1].layers, "conv": 5.0 + 96.0}, layout=0.0, rest=2.0)
    text = warning({1: 1.1}, 2.0, (BEFORE, AFTER), (TIMES[0], after))
    assert text.endswith("profile: 98 % layers with widths that are no multiple of 8: conv (16 → 37).")


def test_layers_come_slowest_first_and_those_beyond_three_are_counted():
    names = [f"conv{n}" for n in range(6)]
    costs = (dict.fromkeys(names, cost(8, 8, 8)), dict.fromkeys(names, cost(4, 8, 4)))
    after = {name: 1.0 + place for place, name in enumerate(names)}  # missing 0, 1, 2, 3, 4, 5 ms
    times = tuple(NodeTimes(layers=found, layout=0.0, rest=0.0) for found in (dict.fromkeys(names, 2.0), after))
    assert "conv5 (8 → 4), conv4 (8 → 4), conv3 (8 → 4) and 2 more." in warning({1: 1.0}, 2.0, costs, times)


@pytest.mark.parametrize(
    ("before", "after", "cause"),
    [
        (cost(8, 0, 64), cost(4, 0, 33), "no multiple of 8: layer (33)"),  # depthwise, but unaligned comes first
        (cost(8, 0, 64), cost(4, 0, 32), "100 % depthwise layers: layer"),
        (cost(8, 3, 64), cost(4, 3, 32), "100 % other layers: layer"),  # the image's channels were never aligned
        (cost(8, 64, 10), cost(4, 33, 10), "no multiple of 8: layer (33 → 10)"),
        (cost(8, 3, 64), cost(8, 3, 64), "100 % layers that keep their MACs: layer"),
        (None, None, "100 % other layers: layer"),
    ],
)
def test_the_cause_is_read_off_the_widths(before, after, cause):
    costs = tuple({} if found is None else {"layer": found} for found in (before, after))
    times = tuple(NodeTimes(layers={"layer": 2.0}, layout=0.0, rest=0.0) for _ in range(2))
    assert cause in warning({1: 1.0}, 2.0, costs, times)


def test_a_profile_that_misses_nothing_names_nothing():
    half = NodeTimes(layers={"conv": 5.0}, layout=0.0, rest=1.0)
    times = (NodeTimes(layers={"conv": 10.0}, layout=0.0, rest=2.0), half)
    assert warning({8: 1.1}, 2.0, (BEFORE, AFTER), times) == (
        "With 2.00× fewer MACs the file is 1.10× as fast at batch 8: less than 60 % of the reduction."
    )
