"""The border to code that is not ours: whatever it raises becomes an error of ours, with its cause."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from topocompress.errors import TopocompressError


@contextlib.contextmanager
def border(refused: Callable[[str], TopocompressError]) -> Iterator[None]:
    """Turn everything that foreign code raises inside the block into one error; ours pass through.

    Foreign code is a library that reads what a user gives, or the user's own; it may raise anything, and may end the
    process by ``sys.exit``. Ctrl-C passes.

    Args:
        refused: Makes the error of the reason in one line.

    Raises:
        TopocompressError: What ``refused`` makes.
    """
    try:
        yield
    except TopocompressError:
        raise
    except (Exception, SystemExit) as error:
        raise refused(reason(error)) from error


def reason(error: BaseException) -> str:
    """The kind of an error and the first line of what it says."""
    if isinstance(error, SystemExit):
        return f"it ended the process by sys.exit({'' if error.code is None else repr(error.code)})"
    try:
        said = str(error).strip()
    except Exception as worse:  # noqa: BLE001 - its own class says how it is written
        said = f"and {type(worse).__name__} while saying what"
    line = next(iter(said.splitlines()), "")
    return f"{type(error).__name__}: {line}".rstrip(": ")
