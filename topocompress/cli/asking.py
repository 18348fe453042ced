"""A question to who sits at the terminal; where nobody does, none is asked."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

import typer

from topocompress.cli.values import pixels
from topocompress.errors import DataError
from topocompress.training.processes import launched

if TYPE_CHECKING:
    from topocompress.models.input_sizes import Ask


def asking(model: str) -> Ask | None:
    """What asks for the input size of a network; ``None`` where there is nobody to answer."""
    if launched() or not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
        return None

    def ask(shape: tuple[int, ...], why: str) -> tuple[int, int]:
        usual = "x".join(map(str, shape))

        def read(text: str) -> tuple[int, int]:
            try:
                found = pixels(
                    text.lower().replace(" ", "").removeprefix(f"{shape[0]}x" if text.count("x") > 1 else "")
                )
            except DataError as error:
                raise typer.BadParameter(f"{error.what}. {error.hint}") from error
            return (found, found) if isinstance(found, int) else found or (shape[1], shape[2])

        typer.echo(f"{model} does not state its input size; {usual} is assumed, {why}.", err=True)
        try:
            answer: tuple[int, int] = typer.prompt(f"input size of {model}", default=usual, value_proc=read, err=True)
        except typer.Abort:
            raise KeyboardInterrupt from None  # which is told as ever
        return answer

    return ask


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()
