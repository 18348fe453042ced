"""The command line: one file per command, one boundary from errors to exit codes.

Each command parses, calls one public function and renders. Nothing here imports torch before a command runs.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from topocompress import __version__, console
from topocompress.cli.bench import bench
from topocompress.cli.compare import compare
from topocompress.cli.criteria import criteria
from topocompress.cli.demo import demo
from topocompress.cli.failing import ends_foreign, unexpected, users_frames, whole_trace
from topocompress.cli.inspect import inspect
from topocompress.cli.panels import Command
from topocompress.cli.prune import prune
from topocompress.cli.score import score
from topocompress.cli.sweep import sweep
from topocompress.errors import KeptWarning, OutputError, TopocompressError

_INTERRUPTED = 130
_DEBUG: ContextVar[bool] = ContextVar("debug", default=False)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Make a trained vision network smaller and faster by removing filters, chosen by the topology of what they "
    "compute.",
)
for command in (prune, score, inspect, compare, sweep, bench, criteria, demo):
    app.command(cls=Command)(command)


def _debug(asked: bool) -> None:
    _DEBUG.set(asked)


def _version(asked: bool) -> None:
    if asked:
        console.note(f"topocompress {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", callback=_debug, help="After an error, say all that is known of it.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line. Exit code 2 for anything the user can mend, 130 after Ctrl-C, SIGTERM and SIGHUP."""
    # Torch's threads would otherwise spin while they wait for each other, and take the cores from what they wait for:
    # on a busy machine steps of small networks took ten times as long. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    stops = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {stop: signal.getsignal(stop) for stop in stops}
    for stop, handler in before.items():
        if handler is not signal.SIG_IGN:  # as nohup has it
            signal.signal(stop, _stop)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names in scripts that a terminal's encoding lacks
            stream.reconfigure(errors="backslashreplace")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", KeptWarning)
            warnings.showwarning = _shown(warnings.showwarning)
            _check_here()
            app()
    except TopocompressError as error:
        _fail(error, error)
    except SystemExit as stop:
        if ends_foreign(stop):  # code of the user's, which must not pass for success
            _fail(unexpected(stop), stop)
        if stop.code == _INTERRUPTED:  # typer turns Ctrl-C into this exit code and says nothing
            console.show_interrupted(_what_is_kept(stop))
        raise
    except Exception as error:  # noqa: BLE001 - the last border: no user is shown a bare traceback
        _fail(unexpected(error), error)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fail(shown: TopocompressError, error: BaseException) -> NoReturn:
    console.show_error(shown, whole_trace(error) if _DEBUG.get() else users_frames(error))
    sys.exit(2)


def _check_here() -> None:
    """Refuse to work in a folder that is gone, in which torch cannot even be loaded."""
    try:
        Path.cwd()
    except OSError as error:
        raise OutputError("the current directory is gone", hint="Change to one that is there.") from error


def _shown(other: Callable[..., None]) -> Callable[..., None]:
    """What shows a warning: ours in a line, others as ever."""

    def show(message: Warning | str, category: type[Warning], *more: Any, **options: Any) -> None:
        if issubclass(category, KeptWarning):
            console.show_warning(str(message))
        else:
            other(message, category, *more, **options)

    return show


def _stop(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM, and the end of a terminal, end a run as Ctrl-C does: what is half-written goes, what is kept is said."""
    raise KeyboardInterrupt


def _what_is_kept(stop: BaseException) -> str:
    """What the interrupt at the bottom of it all says."""
    cause: BaseException | None = stop
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt) and cause.args:
            return str(cause)
        cause = cause.__context__
    return ""
