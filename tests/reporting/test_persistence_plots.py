"""Pictures of one filter; an SVG notes each text that it draws in a comment, which is where the words are read."""

import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from topocompress.errors import OutputError
from topocompress.reporting.persistence_plots import plot_filter
from topocompress.types import FilterView


def a_view(samples: int = 30, **changes) -> FilterView:
    """Made up but consistent: components that merge one by one, and two loops."""
    generator = np.random.default_rng(0)
    deaths = np.sort(generator.uniform(0.5, 1.5, samples - 1))
    bars = {0: np.array([*((0.0, death) for death in deaths), (0.0, np.inf)]), 1: np.array([(1.25, 2.75), (1.5, 2.0)])}
    grid = np.unique([0.0, 1.0, *deaths, 1.25, 1.5, 2.0, 2.75])
    curves = {
        dimension: np.array([((b[:, 0] <= place) & (place < b[:, 1])).sum() for place in grid])
        for dimension, b in bars.items()
    }
    here = int(np.searchsorted(grid, 1.0))
    options = {
        "layer": "block.conv",
        "filter": 7,
        "samples": samples,
        "scale": "absolute:1",
        "maps": {"map_size": 4},
        "epsilon": 1.0,
        "mean_distance": 1.625,
        "betti": {dimension: int(curve[here]) for dimension, curve in curves.items()},
        "diagrams": bars,
        "grid": grid,
        "curves": curves,
        "view": generator.standard_normal((samples, 2)),
        "explained": (0.625, 0.125),
        "labels": np.arange(samples) % 3,
        "edges": np.array([(0, 1), (1, 2)], dtype=np.int32),
        "dead": False,
    }
    return FilterView(**{**options, **changes})


def svg(path, view, **options) -> str:
    plot_filter(path, view, **options)
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("SVG", b"<?xml"), ("pdf", b"%PDF")])
def test_the_ending_says_the_format(tmp_path, ending, start):
    plot_filter(tmp_path / f"filter.{ending}", a_view())

    assert (tmp_path / f"filter.{ending}").read_bytes().startswith(start)
    assert [file.name for file in tmp_path.iterdir()] == [f"filter.{ending}"]


def test_what_is_written_on_it(tmp_path):
    view = a_view()
    text = svg(tmp_path / "f.svg", view, model="net.pt", classes=("cat", "dog", "_other"))

    for label in (
        "net.pt: block.conv, filter 7",
        "N = 30, map size 4, scale absolute:1, mean distance 1.62",
        "at ε = 1:",
        f"β0 = {view.betti[0]}",
        "β1 = 0",
        "30 bars",
        "2 bars",
        "1.25 to 2.75",
        "ε, distance between maps",
        "first principal component (62.5 % of the variance)",
        "second principal component (12.5 %)",
        "2 pairs within ε, light lines",
        " cat ",
        " _other ",
    ):
        assert label in text, label
    assert "dead" not in text


def test_a_dead_filter_is_called_dead(tmp_path):
    changes = {
        "dead": True,
        "epsilon": 0.0,
        "diagrams": {0: np.array([[0.0, np.inf]]), 1: np.empty((0, 2))},
        "grid": np.zeros(1),
        "curves": {0: np.ones(1, int), 1: np.zeros(1, int)},
        "view": np.zeros((30, 2)),
        "explained": (0.0, 0.0),
    }
    text = svg(tmp_path / "f.svg", a_view(**changes))

    assert "dead: the map is the same for every sample" in text
    assert "<!-- 1 bar -->" in text
    assert "longest" not in text


def test_hops_and_three_dimensions(tmp_path):
    whole = a_view()
    changes = {
        "scale": "knn:2,1",
        "diagrams": {**whole.diagrams, 2: np.empty((0, 2))},
        "curves": {**whole.curves, 2: np.zeros_like(whole.grid, dtype=int)},
        "betti": {**whole.betti, 2: 0},
    }
    text = svg(tmp_path / "f.svg", a_view(**changes))

    for label in ("hops in the neighbour graph", "H2", "0 bars", "β2 = 0"):
        assert label in text


def test_an_epsilon_far_out_is_said_and_not_drawn(tmp_path):
    assert "ε is further out" in svg(tmp_path / "f.svg", a_view(epsilon=1e6))
    assert "ε is further out" not in svg(tmp_path / "g.svg", a_view())


def test_too_many_pairs_are_counted_and_not_drawn(tmp_path):
    text = svg(tmp_path / "f.svg", a_view(edges=np.zeros((12_345, 2), np.int32)))

    assert "12,345 pairs within ε, too many to draw" in text


@pytest.mark.parametrize(
    ("labels", "shown", "hidden"),
    [
        (None, "30 bars", "<!--  0 -->"),
        (np.arange(30) % 3, "<!--  2 -->", "<!-- label -->"),
        (np.arange(30), "<!-- label -->", "<!--  0 -->"),
        (np.arange(30) % 10, "<!--  a very long cla… -->", "a very long class name"),
    ],
)
def test_labels(tmp_path, labels, shown, hidden):
    text = svg(tmp_path / "f.svg", a_view(labels=labels), classes=["0", "1", "2", "a very long class name"])

    assert shown in text
    assert hidden not in text


def test_names_are_not_read_as_formulas(tmp_path):
    text = svg(tmp_path / "f.svg", a_view(), model="$x^2$.pt", classes=["$\\broken", "b$", "$c$"])

    assert "$x^2$.pt: block.conv" in text
    assert "$\\broken" in text


CROWDED = {
    "plain": {},
    "labels": {"labels": np.arange(1000) % 10, "samples": 1000},
    "tiny": {"view": 1e-7 * np.random.default_rng(1).standard_normal((30, 2)), "mean_distance": 1.23456e-7},
    "epsilon at the edge": {"epsilon": 0.0},
    "long names": {"layer": "features.denseblock4.denselayer16.conv2" * 3, "filter": 1234},
}


@pytest.mark.parametrize("case", CROWDED)
def test_no_text_overlaps_another_or_leaves_the_picture(case, tmp_path, monkeypatch):
    drawn = []

    def keep(self, *_arguments, **_options):
        drawn.append(self)
        _arguments[0].touch()

    monkeypatch.setattr(Figure, "savefig", keep)
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    plot_filter(tmp_path / "f.png", a_view(**CROWDED[case]), model="model.safetensors", classes=names)

    (figure,) = drawn
    figure.draw(FigureCanvasAgg(figure).get_renderer())
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    assert len(boxes) > 20
    for place, (words, box) in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height, words
        for other, second in boxes[place + 1 :]:
            assert not shrunk(box).overlaps(shrunk(second)), (words, other)


def texts(figure):
    """The texts that are really drawn: tick labels outside the axes' limits are not."""
    for axes in figure.axes:
        yield from (text for text in axes.texts if text.get_text())
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            if not axes.get_visible():
                continue
            for tick in axis.get_major_ticks():
                if tick.label1.get_visible() and min(low, high) <= tick.get_loc() <= max(low, high):
                    yield tick.label1
            yield axis.label
            if axis.offsetText.get_visible() and axis.offsetText.get_text():
                yield axis.offsetText
        yield from (title for title in (axes.title, axes._left_title, axes._right_title) if title.get_text())
        if axes.get_legend():
            yield from axes.get_legend().get_texts()
    yield from figure.texts
    for legend in figure.legends:
        yield from legend.get_texts()


def shrunk(box):
    """Fonts carry some air: two boxes that touch by a pixel do not overlap to the eye."""
    return box.padded(-1.5)


@pytest.mark.parametrize("name", ["filter.gif", "filter", "filter.txt"])
def test_other_formats_are_refused_with_those_there_are(tmp_path, name):
    with pytest.raises(OutputError, match="unknown picture format") as caught:
        plot_filter(tmp_path / name, a_view())

    assert ".png, .svg, .pdf" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    target = tmp_path / "filter.png"
    target.write_bytes(b"old")

    def full(self, path, **_options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OutputError, match="No space left on device"):
        plot_filter(target, a_view())

    assert target.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["filter.png"]


def test_no_window_system_is_touched(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("matplotlib.pyplot")]:
        monkeypatch.delitem(sys.modules, name)

    plot_filter(tmp_path / "filter.png", a_view())

    assert "matplotlib.pyplot" not in sys.modules
