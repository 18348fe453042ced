import re
import sys

import matplotlib
import numpy as np
import pytest

from topocompress.errors import OutputError
from topocompress.reporting.plots import plot_comparison, plot_scores, plot_sweep
from topocompress.types import Cell, Comparison, LayerScores, Point, Scores, Sweep


def scores(**changes) -> Scores:
    generator = np.random.default_rng(0)
    options = {
        "criterion": "betti",
        "higher": "remove",
        "settings": {"scale": "quantile:0.2"},
        "layers": {
            f"block{index}.conv": LayerScores(values=generator.integers(1, 400, 16) * 1.0, dead=np.zeros(16, bool))
            for index in range(3)
        },
        "samples": 500,
        "model": "",
    }
    return Scores(**{**options, **changes})


def svg(path, *args, **options) -> str:
    """The picture as text; matplotlib notes each label that it draws in a comment."""
    plot_scores(path, *args, **options)
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("SVG", b"<?xml"), ("pdf", b"%PDF")])
def test_the_ending_says_the_format(tmp_path, ending, start):
    plot_scores(tmp_path / f"scores.{ending}", scores())

    assert (tmp_path / f"scores.{ending}").read_bytes().startswith(start)
    assert [file.name for file in tmp_path.iterdir()] == [f"scores.{ending}"]


def test_layers_settings_and_direction_are_written_on_it(tmp_path):
    text = svg(tmp_path / "s.svg", scores())

    for label in ("block0.conv", "block2.conv", "betti of 48 filters (higher: remove)", "scale quantile:0.2, N = 500"):
        assert label in text


def test_thresholds_are_marked_and_only_those_asked_for(tmp_path):
    without = svg(tmp_path / "a.svg", scores())
    marked = svg(tmp_path / "b.svg", scores(), (123.5, 410))

    for label in ("<!-- 123.5 -->", "<!-- 410 -->"):
        assert label in marked
        assert label not in without
    assert "not drawn" not in marked


def test_thresholds_far_from_every_score_are_named_and_do_not_squeeze_the_bars(tmp_path):
    def ticks(text):
        return re.findall(r"<!-- (\d+) -->", text.partition('id="axes_2"')[2].partition('id="matplotlib.axis_')[2])

    near, far = svg(tmp_path / "a.svg", scores(), (300,)), svg(tmp_path / "b.svg", scores(), (-900, 300, 5000, 6000))
    assert "<!-- thresholds not drawn: 5000, 6000 far above; -900 far below -->" in far
    assert "<!-- 300 -->" in far
    assert "<!-- 5000 -->" not in far
    assert ticks(near)
    assert ticks(far) == ticks(near)


def test_a_criterion_without_data_or_settings_says_only_score(tmp_path):
    text = svg(tmp_path / "s.svg", scores(criterion="l1", higher="keep", settings={}, samples=0))

    assert "<!-- score -->" in text
    assert "N =" not in text


def test_many_layers_and_equal_scores_are_drawn(tmp_path):
    same = LayerScores(values=np.ones(4), dead=np.zeros(4, bool))

    text = svg(tmp_path / "s.svg", scores(layers={f"layer{index}": same for index in range(60)}))

    assert "layer59" in text


@pytest.mark.parametrize("name", ["scores.jpeg", "scores", "scores.txt"])
def test_other_formats_are_refused_with_those_there_are(tmp_path, name):
    with pytest.raises(OutputError, match="unknown picture format") as caught:
        plot_scores(tmp_path / name, scores())

    assert ".png, .svg, .pdf" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")

    with pytest.raises(OutputError, match="cannot write"):
        plot_scores(tmp_path / "file" / "scores.png", scores())

    assert (tmp_path / "file").read_text(encoding="utf-8") == "in the way"


def test_a_picture_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    target = tmp_path / "scores.png"
    target.write_bytes(b"old")

    def full(self, path, **_options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(OutputError, match="No space left on device"):
        plot_scores(target, scores())

    assert target.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["scores.png"]


def test_no_window_system_is_touched(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("matplotlib.pyplot")]:
        monkeypatch.delitem(sys.modules, name)

    plot_scores(tmp_path / "scores.png", scores())

    assert "matplotlib.pyplot" not in sys.modules


def sweep(*pairs, finetune=0) -> Sweep:
    points = [
        Point(target=1 - n / 4, macs=1 - n / 4, quality=quality, latency=latency, file_bytes=9)
        for n, (latency, quality) in enumerate(pairs)
    ]
    return Sweep(model="m", data="d", measure="accuracy", criterion="l1", finetune=finetune, points=tuple(points))


def test_a_sweep_names_its_sizes_and_tells_the_front_from_the_rest(tmp_path):
    plot_sweep(tmp_path / "a.svg", sweep((1.0, 0.9), (0.7, 0.8), (0.8, 0.7), finetune=2))
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    for label in ("original", "75 %", "50 %", "Pareto front", "slower and no better", "after 2 epochs"):
        assert label in text


def test_a_sweep_all_on_the_front_has_no_rest(tmp_path):
    plot_sweep(tmp_path / "a.svg", sweep((1.0, 0.9), (0.7, 0.8)))
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "slower and no better" not in text
    assert "no fine-tuning" in text


def comparison(ratios=(0.3,), measure="accuracy", finetune=0, **values) -> Comparison:
    """Criterion → what is left per seed, 0.1 less at each further ratio."""
    cells = [
        Cell(criterion=name, ratio=ratio, seed=seed, macs=50, removed=0.0, settled=left - 0.1 * step)
        for name, given in values.items()
        for step, ratio in enumerate(ratios)
        for seed, left in enumerate(given)
    ]
    about = {"model": "m", "data": "d", "macs": 100, "samples": 10}
    return Comparison(**about, measure=measure, original=0.95, finetune=finetune, cells=tuple(cells))


def drawn(path, found: Comparison) -> str:
    plot_comparison(path, found)
    return path.read_text(encoding="utf-8")


def test_one_ratio_is_bars_with_the_best_on_top_and_their_values(tmp_path):
    text = drawn(tmp_path / "a.svg", comparison(random=[0.5, 0.6], l1=[0.9, 0.9], betti=[0.7, 0.72]))
    places = [text.index(f"<!-- {name} -->") for name in ("l1", "betti", "random")]
    assert places == sorted(places)
    for label in ("90.0 ± 0.0 %", "55.0 ± 7.1 %", "original 95.0 %", "30 % of the channels of every layer removed"):
        assert f"<!-- {label} -->" in text
    assert "<!-- accuracy in % (no fine-tuning) -->" in text


def test_bars_that_are_close_have_a_cut_axis_that_says_so(tmp_path):
    cut = "; the axis does not begin at 0 -->"
    assert cut in drawn(tmp_path / "a.svg", comparison(l1=[0.9], random=[0.8]))
    assert cut not in drawn(tmp_path / "a.svg", comparison(l1=[0.9], random=[0.2]))


@pytest.mark.parametrize(
    ("values", "label"),
    [({"l1": [0.95], "betti": [0.95]}, "95.0 %"), ({"l1": [-0.2, -0.3], "betti": [-0.5, -0.5]}, "-0.25 ± 0.071")],
    ids=["all equal", "a metric below 0"],
)
def test_odd_values_are_drawn(tmp_path, values, label):
    measure = "accuracy" if "%" in label else "metric"
    assert f"<!-- {label} -->" in drawn(tmp_path / "a.svg", comparison(measure=measure, **values))


def test_several_ratios_are_lines_against_macs_named_from_the_best_down(tmp_path):
    text = drawn(tmp_path / "a.svg", comparison(ratios=(0.3, 0.5), random=[0.5], l1=[0.9], betti=[0.7]))
    places = [text.index(f"<!-- {name} -->") for name in ("original", "l1", "betti", "random")]
    assert places == sorted(places)
    assert "<!-- MACs left, % of the original -->" in text


def test_the_callers_own_settings_of_matplotlib_are_left_alone(tmp_path):
    before = dict(matplotlib.rcParams)
    plot_scores(tmp_path / "a.png", scores())
    plot_comparison(tmp_path / "b.png", comparison(l1=[0.5]))
    plot_sweep(tmp_path / "c.png", sweep((1.0, 0.9)))
    assert dict(matplotlib.rcParams) == before
