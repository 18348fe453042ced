import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.jobs import data, loaded
from tests.helpers.trained import trained
from topocompress.criteria import L1, Random
from topocompress.errors import PlanError
from topocompress.types import Point, Sweep
from topocompress.workflows.options import Removal, Scoring
from topocompress.workflows.sweep import fastest_within, recommendation, sweep, write


def swept(out=None, targets=(0.75, 0.5), criterion=None, **changes):
    how = {"removal": Removal(round_to=1), "scoring": Scoring(criterion=criterion or L1())}
    return sweep(loaded(trained()), data(**changes), targets, out=out, **how)


def test_every_size_is_measured_from_large_to_small_after_the_original():
    found = swept(targets=(0.5, 0.75, 0.5))
    assert [point.target for point in found.points] == [1.0, 0.75, 0.5]
    whole, *rest = found.points
    assert (whole.macs, whole.latency) == (1.0, 1.0)
    assert whole.quality == pytest.approx(0.92, abs=0.03)
    assert all(point.macs <= point.target and point.file_bytes < whole.file_bytes for point in rest)
    assert all(point.latency > 0 and 0 < point.quality <= 1 for point in rest)
    assert (found.measure, found.criterion, found.finetune) == ("accuracy", "l1", 0)


def test_without_labels_it_is_agreement():
    found = swept(labelled=False, targets=(0.75,))
    assert found.measure == "agreement"
    assert found.points[0].quality == 1.0
    assert found.points[1].quality < 1.0


def test_the_settings_of_the_criterion_are_written_down():
    found = swept(targets=(0.75,), criterion=Random(seed=7))
    assert (found.criterion, found.settings) == ("random", {"seed": 7})


def test_finished_sizes_are_not_measured_again(tmp_path, monkeypatch):
    first = swept(tmp_path)
    monkeypatch.setattr("topocompress.workflows.sweep.compare_latency", None)
    assert swept(tmp_path) == first
    with pytest.raises(TypeError):
        swept(tmp_path, targets=(0.75, 0.6))


@pytest.mark.parametrize("targets", [(), (0.0,), (0.5, 1.0)])
def test_targets_out_of_range(targets):
    with pytest.raises(PlanError, match="between 0 and 1"):
        swept(targets=targets)


def curve(*pairs, finetune=0):
    points = [Point(target=1.0, macs=1.0, quality=0.9, latency=1.0, file_bytes=100)]
    points += [
        Point(target=1 - n / 10, macs=1 - n / 10, quality=quality, latency=latency, file_bytes=50)
        for n, (latency, quality) in enumerate(pairs, 1)
    ]
    return Sweep(model="m", data="d", measure="accuracy", criterion="l1", finetune=finetune, points=tuple(points))


def test_the_front_leaves_out_what_another_beats_in_both():
    found = curve((0.8, 0.85), (0.9, 0.84), (0.5, 0.7))
    assert [point.latency for point in found.front] == [1.0, 0.8, 0.5]


def test_of_two_equally_fast_the_better_is_on_the_front_and_a_faster_better_one_beats_the_original():
    assert [point.quality for point in curve((0.8, 0.85), (0.8, 0.86)).front] == [0.9, 0.86]
    assert [point.latency for point in curve((0.8, 0.95)).front] == [0.8]


@given(st.lists(st.tuples(st.floats(0.1, 2), st.floats(0, 1)), max_size=8))
def test_the_front_is_what_nothing_dominates(pairs):
    found = curve(*pairs)

    def beaten(point):
        return any(
            other.latency <= point.latency
            and other.quality >= point.quality
            and (other.latency, other.quality) != (point.latency, point.quality)
            for other in found.points
        )

    kept = {(point.latency, point.quality) for point in found.front}
    assert kept == {(point.latency, point.quality) for point in found.points if not beaten(point)}


def test_one_sentence_says_what_to_use():
    found = curve((0.8, 0.895), (0.6, 0.86), (0.4, 0.5))
    assert fastest_within(found, 1.0).latency == 0.8
    assert recommendation(found).startswith("The fastest within 1 point of accuracy: --target-macs 0.9, 1.25× faster")
    assert "within 5 points of accuracy: --target-macs 0.9, 1.67×" in recommendation(curve((0.6, 0.86)))


def test_where_nothing_is_worth_it_that_is_said():
    assert "try fine-tuning (--finetune)" in recommendation(curve((0.8, 0.5)))
    assert "try longer fine-tuning" in recommendation(curve((1.2, 0.9), finetune=2))
    assert fastest_within(curve((0.8, 0.5)), 1.0) is None


def test_the_file_names_the_front(tmp_path):
    write(tmp_path / "sweep.json", curve((0.8, 0.85), (0.9, 0.84)))
    content = json.loads((tmp_path / "sweep.json").read_text())
    assert content["front"] == [1.0, 0.9]
    assert content["points"][1] == {
        "target": 0.9,
        "macs": 0.9,
        "quality": 0.85,
        "latency": 0.8,
        "file_bytes": 50,
    }
    assert "versions" in content["environment"]
