"""Lists the studies: what each measures, its command, what that takes, and what its last results say.

python -m benchmarks
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import textwrap
from functools import partial
from pathlib import Path

import benchmarks
from benchmarks.common.results import kept, read

ROOT = Path(__file__).parents[1]
WIDTH = 110


def studies() -> list[str]:
    """Every folder but that of what they share."""
    return [each.name for each in pkgutil.iter_modules(benchmarks.__path__) if each.ispkg and each.name != "common"]


def said(study: str) -> str:
    """What the kept results of a study say, in words."""
    if not kept(study).exists():
        return "no file keeps any; see the pages"
    summary = importlib.import_module(f"benchmarks.{study}.summary").summary
    return summary(read(kept(study))) or "nothing has been measured yet"


def pages(study: str) -> list[str]:
    """The pages that name its command."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    command = re.compile(rf"\bbenchmarks\.{study}\b")
    return [page.relative_to(ROOT).as_posix() for page in found if command.search(page.read_text(encoding="utf-8"))]


def described(study: str) -> str:
    """A study in a few lines: the beginning of its docstring, its results and its pages."""
    text = inspect.getdoc(importlib.import_module(f"benchmarks.{study}")) or ""
    what, command, takes = text.split("\n\n")[:3]
    fill = partial(textwrap.fill, width=WIDTH, initial_indent="    ", subsequent_indent="    ")
    parts = (takes, f"Last results: {said(study)}.", f"Pages: {', '.join(pages(study))}.")
    return "\n".join([f"{study}: {what}", command, *map(fill, parts)])


def main() -> None:
    for study in studies():
        print(described(study), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
