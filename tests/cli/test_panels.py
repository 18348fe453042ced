"""Help in two sizes."""

from __future__ import annotations

import pytest
from typer.core import TyperOption
from typer.main import get_command
from typer.testing import CliRunner

from topocompress.cli import app
from topocompress.cli.panels import EXAMPLES, PANELS, USED, Command

COMMANDS: dict[str, Command] = get_command(app).commands  # type: ignore[attr-defined]
SCREEN = 56
"""Lines of 80 columns."""


def helped(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "80"}, prog_name="topocompress")
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_its_panel(name: str) -> None:
    placed = [option for options in PANELS.values() for option in options]
    assert len(set(placed)) == len(placed)
    assert {each.name for each in COMMANDS[name].params if isinstance(each, TyperOption)} <= set(placed)


def test_the_panels_name_no_option_that_there_is_not() -> None:
    there = {each.name for command in COMMANDS.values() for each in command.params}
    assert {option for options in PANELS.values() for option in options} <= there
    for name, options in USED.items():
        assert options <= {each.name for each in COMMANDS[name].params}
    assert set(EXAMPLES) == set(COMMANDS)


def test_the_help_of_prune_fits_on_a_screen_and_shows_ten_options_and_how_to_see_the_rest() -> None:
    text = helped("prune", "--help")
    assert len(text.splitlines()) <= SCREEN
    assert sum(f"--{name.replace('_', '-')} " in text for name in USED["prune"]) == 10
    assert "--round-to" not in text
    assert "--help-all has" in text
    for example in EXAMPLES["prune"]:
        assert f"  {example}\n" in text


def test_the_whole_help_has_every_option_whatever_else_stands_beside_it() -> None:
    text = helped("prune", "no-such-model", "--help-all")
    for option in COMMANDS["prune"].params:
        assert not isinstance(option, TyperOption) or option.opts[0] in text
    assert "--help-all has" not in text


def test_short_help_hides_nothing_for_later() -> None:
    helped("prune", "--help")
    assert "--round-to" in helped("prune", "--help-all")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_an_example_that_can_be_parsed(name: str) -> None:
    command = COMMANDS[name]
    for example in EXAMPLES[name]:
        words = example.split()
        assert words[:2] == ["topocompress", name]
        command.make_context(name, words[2:])
