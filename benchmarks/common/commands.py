"""The command of a study, which its package's docstring describes."""

from __future__ import annotations

import argparse
from types import ModuleType


def parser_of(study: ModuleType) -> argparse.ArgumentParser:
    """A parser whose ``--help`` shows the study's docstring."""
    return argparse.ArgumentParser(
        prog=f"python -m {study.__name__}",
        description=study.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
