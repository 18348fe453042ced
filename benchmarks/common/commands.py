"""The command of a study, which its package's docstring describes."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import ModuleType


def parser_of(study: ModuleType) -> argparse.ArgumentParser:
    """A parser whose ``--help`` shows the study's docstring."""
    return argparse.ArgumentParser(
        prog=f"python -m {study.__name__}",
        description=study.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_places(parser: argparse.ArgumentParser) -> None:
    """Where trained weights and data sets lie, as most studies take them."""
    for name in ("weights", "cifar", "fashion"):
        parser.add_argument(f"--{name}", type=Path, default=Path(name))
