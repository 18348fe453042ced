"""An input size that nothing tells is asked for in a terminal, and nowhere else."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.commands import run
from topocompress import console
from topocompress.cli.asking import asking

SCORE = ["score", "unstated:build", "--criterion", "l1", "--samples", "20", "--out", "scores.json"]
FACTORY = "import tinynet\ndef build():\n    net = tinynet.Tiny()\n    net.input_shape = None\n    return net\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def consoles() -> Iterator[None]:
    """One that has been made for a terminal is not kept for other tests."""
    console._console.cache_clear()
    yield
    console._console.cache_clear()


@pytest.fixture
def unstated(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A factory of a network that runs at any size and states none."""
    (place / "unstated.py").write_text(FACTORY, encoding="utf-8")
    monkeypatch.delitem(sys.modules, "unstated", raising=False)
    for name in ("LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return place


def seated(monkeypatch: pytest.MonkeyPatch, answers: str) -> Terminal:
    """Somebody at a terminal, who types that."""
    shown = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal(answers))
    monkeypatch.setattr(sys, "stderr", shown)
    return shown


@pytest.mark.parametrize(
    ("typed", "inputs"),
    [
        ("32\n", "3 × 32 × 32"),
        ("3x20x28\n", "3 × 20 × 28"),
        ("large\n\n", "3 × 224 × 224"),
        ("0\n24x16\n", "3 × 24 × 16"),
    ],
)
@pytest.mark.usefixtures("unstated")
def test_who_sits_at_a_terminal_is_asked(
    typed: str, inputs: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = seated(monkeypatch, typed)
    assert run(monkeypatch, *SCORE) == 0
    assert "input size of unstated:build [3x224x224]:" in shown.getvalue()
    assert ("cannot read the input size" in shown.getvalue()) == (typed.count("\n") > 1)
    printed = capsys.readouterr().out
    assert f"unstated:build: inputs {inputs}" in " ".join(printed.split())
    assert "Input size assumed" not in printed


@pytest.mark.usefixtures("unstated")
def test_without_a_terminal_it_is_the_first_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("32\n"))
    assert run(monkeypatch, *SCORE) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("Input size assumed: 3 x 224 x 224, as for ImageNet; it runs at other sizes too.")
    assert "--input-size PIXELS, or input_shape = (3, HEIGHT, WIDTH)" in shown.out
    assert "input size of" not in shown.out + shown.err


def test_what_the_images_tell_is_not_asked(
    unstated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = seated(monkeypatch, "")
    assert run(monkeypatch, *SCORE, "--data", str(unstated / "photos")) == 0
    assert "input size of" not in shown.getvalue()
    assert capsys.readouterr().out.startswith("Input size assumed: 3 x 16 x 16, the size of the images given.")
    shutil.rmtree(unstated / "photos")


@pytest.mark.usefixtures("unstated")
def test_who_breaks_off_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = seated(monkeypatch, "")
    assert run(monkeypatch, *SCORE) == 130
    assert "Interrupted; nothing was written." in shown.getvalue()
    assert not Path("scores.json").exists()


def test_nobody_is_asked_by_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    seated(monkeypatch, "")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert asking("net") is None


def test_nobody_is_asked_where_there_is_no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    seated(monkeypatch, "")
    monkeypatch.setattr(sys, "stdin", None)
    assert asking("net") is None
