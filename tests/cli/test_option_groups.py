from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from topocompress.cli.option_groups import grouped


@dataclass(frozen=True, kw_only=True)
class Colours:
    front: Annotated[str, typer.Option("--front", help="In front.")] = "red"
    depth: Annotated[int, typer.Option("--depth")] = 3


def app(seen):
    @grouped
    def paint(*, wall: Annotated[str, typer.Argument()], colours: Colours, coats: int = 1) -> None:
        """Paint a wall."""
        seen.append((wall, colours, coats))

    found = typer.Typer()
    found.command()(paint)
    return found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["north"], ("north", Colours(), 1)),
        (["north", "--depth", "8", "--coats", "2"], ("north", Colours(depth=8), 2)),
        (["--front", "blue", "north"], ("north", Colours(front="blue"), 1)),
    ],
)
def test_the_fields_of_a_group_are_options_and_the_command_gets_the_group(words, expected):
    seen = []
    result = CliRunner().invoke(app(seen), words)
    assert result.exit_code == 0, result.output
    assert seen == [expected]


def test_help_shows_them_where_the_group_stands():
    shown = CliRunner().invoke(app([]), ["--help"]).output
    assert "Paint a wall." in shown
    assert shown.index("--front") < shown.index("--depth") < shown.index("--coats")
    assert "In front." in shown
    assert "colours" not in shown


def test_a_value_of_the_wrong_type_is_refused():
    assert CliRunner().invoke(app([]), ["north", "--depth", "deep"]).exit_code == 2
