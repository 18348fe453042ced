"""The page ``docs/cli.md``, generated from ``--help-all``: ``python -m topocompress.cli.reference > docs/cli.md``."""

from __future__ import annotations

import sys

from typer.main import get_command
from typer.testing import CliRunner

from topocompress.cli import app


def page() -> str:
    """The whole reference as Markdown."""
    commands = get_command(app).commands  # type: ignore[attr-defined]
    parts = ["# The command line\n\nGenerated: `python -m topocompress.cli.reference > docs/cli.md`.\n"]
    for words in ([], *([name] for name in commands)):
        text = (
            CliRunner()
            .invoke(
                app, [*words, "--help-all" if words else "--help"], env={"COLUMNS": "100"}, prog_name="topocompress"
            )
            .output
        )
        lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
        parts.append(f"## {' '.join(['topocompress', *words])}\n\n```text\n{lines}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
