"""What is said of errors that are none of ours, and where in the user's own code an error came from."""

from __future__ import annotations

import errno
import sysconfig
import traceback
from pathlib import Path
from types import TracebackType

from topocompress.errors import TopocompressError
from topocompress.runtime.borders import reason

_PACKAGE = Path(__file__).parents[1]
_LIBRARIES = {Path(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
_FRAMES = 8
_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


def users_frames(error: BaseException) -> str:
    """Lines of the user's own code that an error, or what it was made of, went through; empty if it went through none.

    Code is the user's if it belongs neither to topocompress nor to Python and what is installed.
    """
    cause: BaseException | None = error
    while cause is not None:
        frames = traceback.extract_tb(cause.__traceback__)
        if any(_is_users(frame.filename) for frame in frames):
            first = next(number for number, frame in enumerate(frames) if _is_users(frame.filename))
            lines = traceback.format_list(frames[first:][:_FRAMES])
            return "".join(["In your code:\n", *lines, reason(cause)]).rstrip()
        cause = cause.__cause__
    return ""


def whole_trace(error: BaseException) -> str:
    """Everything that Python knows of an error."""
    return "".join(traceback.format_exception(error)).rstrip()


def unexpected(error: BaseException) -> TopocompressError:
    """The error to show for one that should have been ours."""
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return TopocompressError(
            f"the memory is used up: {reason(error)}",
            hint="Lower --samples, --memory, --workers or --batch-size, or give a smaller --input-size.",
        )
    if isinstance(error, OSError) and error.errno in _FULL:
        return TopocompressError(f"there is no space left: {reason(error)}", hint="Free some, or name another place.")
    hint = "This is a mistake in topocompress, or in your own code; `topocompress --debug ...` says where."
    return TopocompressError(f"unexpected {reason(error)}", hint=hint)


def ends_foreign(stop: SystemExit) -> bool:
    """Whether the process was about to end by code that is neither ours nor the command line's.

    Rich ends it where nobody reads what is printed any more.
    """
    trace: TracebackType | None = stop.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    origin = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))
    return origin.partition(".")[0] not in ("typer", "click", "topocompress", "rich")


def _is_users(file: str) -> bool:
    path = Path(file)
    return path.is_file() and not any(path.is_relative_to(place) for place in (_PACKAGE, *_LIBRARIES))
