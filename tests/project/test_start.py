"""The pages for newcomers do what they say; commands on any page have the options that they are shown with."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from typer.main import get_command

from tests.helpers.commands import run
from tests.helpers.imagesets import write_images
from topocompress.cli import app

ROOT = Path(__file__).parents[2]
START = ROOT / "docs" / "start"
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if page.name != "cli.md"),  # which is generated
    *sorted((ROOT / "plugins").glob("*/README.md")),
]
COMMANDS = get_command(app).commands


def commands(text):
    """The words behind ``topocompress`` of every command line in the code blocks of a page."""
    lines = text.replace("\\\n", " ").splitlines()
    found = [re.search(r"(?:^    |^| run |-m )topocompress (\w.*)$", line) for line in lines if "`" not in line]
    return [shlex.split(line[1], comments=True) for line in found if line and line[1].split()[0] in COMMANDS]


def snippets(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def test_commands_are_found():
    text = "    topocompress score a --out \\\n  'b c'   # why\n    uv run topocompress demo\ntopocompress cuts `a`\n"
    assert commands(text) == [["score", "a", "--out", "b c"], ["demo"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_options_exist(page):
    for name, *words in commands(page.read_text(encoding="utf-8")):
        known = {option for each in COMMANDS[name].params for option in (*each.opts, *each.secondary_opts)}
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used <= known, f"{name}: {used - known}"


@pytest.mark.usefixtures("unexported")
def test_first_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (snippet,) = snippets(START / "first-run.md")
    exec(compile(snippet, "first-run.md", "exec"), {})
    times, accuracy = re.fullmatch(r"MACs ([\d.]+) times fewer, accuracy ([\d.]+)%\n", capsys.readouterr().out).groups()
    assert float(times) > 1.9
    assert float(accuracy) > 90


@pytest.mark.usefixtures("unexported")
def test_own_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mynets", raising=False)
    factory, pruning = snippets(START / "own-model.md")
    (tmp_path / "mynets.py").write_text(factory, encoding="utf-8")
    import mynets

    torch.save(mynets.build().state_dict(), "mynet.pt")
    for seed, name in enumerate(("cat", "dog")):
        write_images(tmp_path / "photos" / name, 30, seed=seed)
    _, command, *_ = commands((START / "own-model.md").read_text(encoding="utf-8"))
    assert run(monkeypatch, *command) == 0
    assert (tmp_path / "mynet-run" / "plan.json").is_file()
    names = {}
    exec(compile(pruning, "own-model.md", "exec"), names)
    weights, fewer = (sum(each.numel() for each in model.parameters()) for model in (mynets.build(), names["smaller"]))
    assert fewer < 0.8 * weights
