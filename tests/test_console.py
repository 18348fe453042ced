"""Progress bars: one per step, whatever detail the step carries."""

import io
import sys
from types import SimpleNamespace

import pytest

from topocompress import console
from topocompress.criteria.registry import CriterionInfo
from topocompress.errors import DataError
from topocompress.runtime.text import printable
from topocompress.types import GroupPlan, PruningPlan


@pytest.fixture(autouse=True)
def fresh_console():
    """A console decides once whether it may use colours."""
    console._console.cache_clear()
    yield
    console._console.cache_clear()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_one_bar_per_step(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with console.progress() as progress:
        for done in range(1, 4):
            progress(f"fine-tuning: epoch 1/1, loss {done}", done, 3)
        progress("exporting", 0, 2)
    shown = terminal.getvalue().rpartition("fine-tuning")[2]  # the last drawing
    assert "loss 3" in shown
    assert "3/3" in shown
    assert "loss 1" not in shown
    assert "exporting" in shown


def test_no_bars_where_nobody_looks(monkeypatch):
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    with console.progress() as progress:
        progress("exporting", 1, 2)
    assert pipe.getvalue() == ""


def test_a_log_gets_a_line_a_minute(monkeypatch):
    log, clock = io.StringIO(), iter([0.0, 59.0, 61.0, 61.0, 100.0, 122.0, 122.0])
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with console.progress() as progress:
        for done in range(1, 5):
            progress("fine-tuning: epoch 1/1, loss 2", done, 9)
    assert log.getvalue() == "fine-tuning: epoch 1/1, loss 2 2/9\nfine-tuning: epoch 1/1, loss 2 4/9\n"


def test_an_error_is_shown_with_its_hint_and_no_markup(capsys):
    console.show_error(DataError("no [bold] images", hint="give [some]"))
    assert capsys.readouterr().err == "Error: no [bold] images\ngive [some]\n"


def test_what_is_between_colons_is_no_picture(capsys):
    console.show_error(DataError("imagefolder:cat: several outputs", hint="imagefolder:10: see"))
    console.note("imagefolder:abc: 3 folders")
    shown = capsys.readouterr()
    assert "imagefolder:cat: several" in shown.err
    assert "imagefolder:10: see" in shown.err
    assert "imagefolder:abc: 3" in shown.out


NAMES = ["[/]x", "[red]conv[/]", ":smiley:", "\x1b[31mred", "\x1b]0;title\x07", "tail\\", "caf\udce9", "a\nb"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("show", ["note", "error", "layers", "plan", "criteria", "report", "progress"])
def test_names_are_shown_and_not_obeyed(monkeypatch, show, name):
    out = Terminal()
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, out)
    monkeypatch.setenv("TERM", "xterm" if show == "progress" else "dumb")  # which has no escapes of our own
    monkeypatch.setenv("COLUMNS", "200")
    numbers = dict.fromkeys(("min", "q1", "median", "q3", "max"), 1.0)
    if show == "note":
        console.note(name)
    elif show == "error":
        console.show_error(DataError(name, hint=name), trace=name)
    elif show == "layers":
        console.show_layers([{"layer": name, "filters": 1, "dead": 0, "above": {}, **numbers}], name)
    elif show == "plan":
        group = GroupPlan(root=name, width=2, protected=name)
        plan = PruningPlan(model="", rule={}, criterion="", groups=(group,), macs_before=1, macs_after=1)
        console.show_plan(plan)
    elif show == "criteria":
        console.show_criteria([CriterionInfo(name=name, distribution=name, error=name)])
    elif show == "report":
        report = SimpleNamespace(warnings=[name], notes=[name])
        console.show_report(report, [["", "a", "b"], [name, name, name]], [name, name])
    else:
        with console.progress() as progress:
            progress(name, 1, 2)
    shown = out.getvalue()
    assert not set("\x1b\x07\x9b\udce9\b") & set(name) & set(shown) or show == "progress"
    assert not any(raw in shown for raw in ("\x1b]0;", "\x07", "\udce9", "\x1b[31mred"))
    assert printable(name) in shown or printable(name, lines=True) in shown
