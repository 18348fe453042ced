"""``topocompress inspect``: the picture, the summary, and what is refused before any work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.commands import BASE, refused, run

FILTER = ["--layer", "body.2", "--filter", "3"]


@pytest.mark.usefixtures("place")
def test_inspect_draws_and_says_what_it_saw(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "inspect", "tiny.safetensors", *BASE, *FILTER, "--scale", "quantile:0.1") == 0
    with Image.open("filter.png") as picture:  # the default place
        assert picture.size[0] > 1000
    printed = " ".join(capsys.readouterr().out.split())
    assert "body.2, filter 3" in printed
    for pattern in (r"samples 20", r"ε \(quantile:0\.1\) [\d.]+", r"mean distance [\d.]+", r"β0 at ε \d+", r"dead no"):
        assert re.search(pattern, printed), pattern
    assert "Written: filter.png" in printed


@pytest.mark.usefixtures("place")
def test_the_picture_names_model_layer_filter_and_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["tiny.safetensors", *BASE, *FILTER, "--dims", "0,1,2", "--scale", "knn:3,2", "--out", "deep/f.svg"]
    assert run(monkeypatch, "inspect", *words, "--map-size", "2") == 0
    text = Path("deep/f.svg").read_text(encoding="utf-8")
    for label in (
        "tiny.safetensors: body.2, filter 3",
        "N = 20, map size 2, scale knn:3,2",
        "hops",
        "β2 = ",
        " cat ",
        " dog ",
    ):
        assert label in text


@pytest.mark.usefixtures("place")
def test_the_same_command_draws_the_same_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    for out in ("one.png", "two.png"):
        assert run(monkeypatch, "inspect", "tiny.safetensors", *BASE, *FILTER, "--out", out) == 0
    assert Path("one.png").read_bytes() == Path("two.png").read_bytes()


BEFORE_THE_MODEL = {
    "format": (["--out", "f.gif"], "unknown picture format"),
    "place": (["--out", "photos.png/f.png"], "not a writable directory"),
    "directory": (["--out", "photos.svg"], "is a directory"),
    "scale": (["--scale", "quantil:0.2"], "quantile:Q"),
    "dimension": (["--dims", "3"], "0, 1 and 2"),
    "memory": (["--memory", "much"], "--memory 2GB"),
}


@pytest.mark.parametrize("case", BEFORE_THE_MODEL)
def test_refused_before_the_model_is_read(
    case: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "photos.png").touch()
    (place / "photos.svg").mkdir()
    (place / "damaged.pt").write_bytes(b"\x80\x02 begins as a pickle does")
    words, expected = BEFORE_THE_MODEL[case]
    assert expected in refused(monkeypatch, capsys, "inspect", "damaged.pt", *FILTER, *words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--layer", "body.1", "--filter", "0"], "'body.1' is a ReLU"),
        (["--layer", "boddy.2", "--filter", "0"], "Did you mean body.2"),
        (["--layer", "body.2", "--filter", "8"], "it has 8 filters Choose among 0..7."),
        (["--layer", "body.2", "--filter", "-1"], "no filter -1"),
        ([*FILTER, "--scale", "knn:50,2"], "needs more than 50 samples"),
        (["--layer", "body.2"], "--filter"),
        (["--filter", "0"], "--layer"),
    ],
)
@pytest.mark.usefixtures("place")
def test_a_filter_that_is_not_there_is_refused(
    words: list[str], expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in refused(monkeypatch, capsys, "inspect", "tiny.safetensors", *BASE, *words)
