"""What the terminal shows: tables, progress bars, errors. The only user of rich."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from topocompress.runtime.text import printable
from topocompress.training.processes import is_echo, is_main, rank

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from topocompress.criteria.registry import CriterionInfo
    from topocompress.deploy.bench import Bench
    from topocompress.errors import TopocompressError
    from topocompress.runtime.progress import Progress
    from topocompress.types import FilterView, PruningPlan, Report, Sweep


# Rich is imported on first use: an argument error must not wait for it.
@functools.cache
def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, emoji=False, quiet=not (stderr or is_main()))


def _say(text: str, *, start: str = "", stderr: bool = False) -> None:
    """Lines of text as they are, for names in them come from anywhere; ``start`` is markup of ours."""
    from rich import markup

    _console(stderr=stderr).print(f"{start}{markup.escape(printable(text, lines=True))}", soft_wrap=True)


def show_error(error: TopocompressError, trace: str = "") -> None:
    """An error, what to do next and where it was raised, on standard error; not one that the main process shows."""
    if is_echo(error):
        return
    where = "" if is_main() else f" in process {rank()}"
    _say(error.what, start=f"[bold red]Error{where}:[/] ", stderr=True)
    for text in filter(None, (error.hint, trace)):
        _say(text, stderr=True)


def show_warning(text: str) -> None:
    """One line on standard error."""
    if is_main():
        _say(text, start="[yellow]Warning:[/] ", stderr=True)


def show_interrupted(kept: str = "") -> None:
    """What is said after Ctrl-C, and what has been kept, if anything; once for all processes."""
    if not is_main():
        return
    _say(f"Interrupted; {kept or 'nothing was written'}.", stderr=True)


def note(text: str) -> None:
    """One line of text on standard output."""
    _say(text)


_COLUMNS, _WIDTH, _MORE = 4, 80, 30
"""Columns of the before/after table that fit any terminal; the characters they take, and those of two more."""
_QUIET_SECONDS = 60.0
"""Between two lines of progress where there is no terminal."""


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """A callback ``(step, done, total)`` that draws one bar per step on standard error, or writes a line now and then.

    Lines are for what is no terminal, such as the log of a job that runs for hours.
    """
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TaskID, TextColumn, TimeRemainingColumn

    class Rate(TextColumn):
        """Items per second."""

        def render(self, task: Task) -> Text:
            from rich.text import Text

            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:.3g}/s", style="progress.data.speed")

    text, left = TextColumn("{task.description}", markup=False), TimeRemainingColumn(compact=True)
    columns = (text, BarColumn(), MofNCompleteColumn(), Rate(""), left)
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=_console(stderr=True), transient=True, disable=not is_main()) as bars:

        def report(step: str, done: int, total: int) -> None:
            name = step.partition(":")[0]
            if name not in tasks:
                tasks[name] = bars.add_task(printable(step), total=total)
            bars.update(tasks[name], description=printable(step), completed=done, total=total)

        yield report


def _lines() -> Progress:
    """A callback ``(step, done, total)`` that says where it stands once a minute."""
    said = time.monotonic()

    def report(step: str, done: int, total: int) -> None:
        nonlocal said
        if is_main() and time.monotonic() - said >= _QUIET_SECONDS:
            said = time.monotonic()
            print(f"{printable(step)} {done}/{total}", file=sys.stderr, flush=True)

    return report


def _table(title: str) -> Table:
    """A table whose cells are shown as they are."""
    from rich import box, table
    from rich.text import Text

    class Table(table.Table):
        def add_row(self, *cells: Any, **options: Any) -> None:
            plain = (Text(printable(cell)) if isinstance(cell, str) else cell for cell in cells)
            super().add_row(*plain, **options)

    shown = Text(printable(title), style="bold")
    return Table(title=shown, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def show_criteria(criteria: Sequence[CriterionInfo]) -> None:
    """Name, source and one line of every criterion."""
    table = _table("Criteria")
    for heading in ("criterion", "from", "what it is"):
        table.add_column(heading)
    for found in criteria:
        table.add_row(found.name, found.distribution, found.summary or f"unusable: {found.error}")
    _console().print(table)


def show_layers(rows: Sequence[dict[str, Any]], criterion: str) -> None:
    """One row per layer: quartiles and how many filters each threshold would remove."""
    thresholds = list(rows[0]["above"]) if rows else []
    table = _table(f"{criterion}: scores per layer")
    table.add_column("layer", no_wrap=True)
    for heading in ("filters", "dead", "min", "q1", "median", "q3", "max", *(f">{text}" for text in thresholds)):
        table.add_column(heading, justify="right")
    for row in rows:
        numbers = [f"{row[key]:.3g}" for key in ("min", "q1", "median", "q3", "max")]
        table.add_row(row["layer"], str(row["filters"]), str(row["dead"]), *numbers, *map(str, row["above"].values()))
    if thresholds and rows:
        sums = [str(sum(row["above"][text] for row in rows)) for text in thresholds]
        total = str(sum(row["filters"] for row in rows))
        table.add_section()
        table.add_row("all", total, str(sum(row["dead"] for row in rows)), *[""] * 5, *sums)
    _console().print(table)


def show_filter(view: FilterView) -> None:
    """What is known of one filter: ε, its Betti numbers there, its longest loop, and whether it is dead."""
    table = _table(f"{view.layer}, filter {view.filter}")
    table.show_header = False
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    hops = " hops" * (view.unit == "hops")
    table.add_row("samples", str(view.samples))
    for name, value in view.maps.items():
        table.add_row(name.replace("_", " "), str(value))
    table.add_row(f"ε ({view.scale})", f"{view.epsilon:.4g}{hops}")
    table.add_row("mean distance", f"{view.mean_distance:.4g}")
    for dimension, number in view.betti.items():
        table.add_row(f"β{dimension} at ε", str(number))
    for dimension in view.betti:
        bar = view.longest(dimension) if dimension else None
        if bar:
            table.add_row(f"longest H{dimension} bar", f"{bar[1] - bar[0]:.3g}{hops} ({bar[0]:.4g} to {bar[1]:.4g})")
    table.add_row("dead", "yes: its map is the same for every sample" if view.dead else "no")
    _console().print(table)


def show_plan(plan: PruningPlan) -> None:
    """Width before and after of every group, and why some stay whole."""
    table = _table("Plan")
    table.add_column("layer", no_wrap=True)
    for heading in ("before", "after", "asked for", "dead"):
        table.add_column(heading, justify="right")
    table.add_column("kept because", overflow="fold")
    for entry in plan.groups:
        numbers = map(str, (entry.width, entry.kept, entry.above, len(entry.dead)))
        table.add_row(entry.root, *numbers, entry.protected)
    _console().print(table)
    _console().print(
        f"{plan.removed} channels go; {plan.macs_before / 1e6:.1f} M multiply-accumulates become "
        f"{plan.macs_after / 1e6:.1f} M ({plan.macs_before / max(1, plan.macs_after):.2f}× fewer)."
    )


def show_report(
    report: Report, comparison: Sequence[Sequence[str]], lines: Sequence[str], said: Sequence[str] = ()
) -> None:
    """The before/after table (its first row is the head), the steps in between, and what to read and is not said yet.

    A terminal too narrow for the columns of files in fewer bits does without; a sentence says as much.
    """
    table = _table(lines[0])
    columns = _COLUMNS + 2 * max(0, (_console().width - _WIDTH) // _MORE)
    table.add_column("", no_wrap=True)
    for heading in comparison[0][1:columns]:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in comparison[1:]:
        table.add_row(*row[:columns])
    _console().print(table)
    for start, texts in (("", lines[1:]), ("[yellow]Warning:[/] ", report.warnings), ("Note: ", report.notes)):
        for text in (each for each in texts if each not in said):
            _say(text, start=start)


def show_bench(found: Bench) -> None:
    """One row per file and batch size: time, how much faster than the first and how sure that is, start, memory."""
    table = _table("ONNX Runtime on this CPU")
    for heading in ("file", "batch", "median ms", "p95 ms", "runs", "speed-up", "95 %", "start ms", "peak MB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for place, file in enumerate(found.files, start=1):
        note(f"{place}: {file.path}, {file.file_bytes / 1e6:.2f} MB")
        peak = "" if file.fresh.peak_bytes is None else f"{file.fresh.peak_bytes / 1e6:.0f}"
        for number, timing in enumerate(file.timings):
            sure = ("", "") if place == 1 else (f"{timing.speedup:.2f}×", f"{timing.low:.2f}–{timing.high:.2f}")
            once = ("", "") if number else (f"{file.fresh.load_ms + file.fresh.first_ms:.0f}", peak)
            numbers = (f"{timing.median_ms:.2f}", f"{timing.p95_ms:.2f}", str(timing.runs))
            table.add_row("" if number else str(place), str(timing.batch), *numbers, *sure, *once)
        table.add_section()
    _console().print(table)
    cpus = f" on cores {', '.join(map(str, found.cpus))}" if found.cpus else ""
    note(
        f"{found.provider}, {found.threads} thread{'s' * (found.threads > 1)}{cpus}, {found.warmup} warm-up rounds; "
        f"available: {', '.join(found.available)}."
    )
    for file in found.files:
        if file.fixed_batch is not None:
            note(f"{file.path} takes batches of {file.fixed_batch} only.")


def show_comparison(rows: Sequence[dict[str, Any]], title: str, factor: float = 100, form: str = ".1f") -> None:
    """What each criterion leaves at each ratio, mean ± standard deviation over the seeds."""
    stages = {"removed": "after removal", "settled": "repaired", "tuned": "fine-tuned"}
    shown = [stage for stage in stages if rows and stage in rows[0]]
    table = _table(title)
    table.add_column("share removed", justify="right")
    table.add_column("criterion", no_wrap=True)
    for heading in ("MACs left", *(stages[stage] for stage in shown)):
        table.add_column(heading, justify="right")
    last = None
    for row in rows:
        if last is not None and row["ratio"] != last:
            table.add_section()
        first = f"{row['ratio']:g}" if row["ratio"] != last else ""
        numbers = [f"{factor * row[stage][0]:{form}} ± {factor * row[stage][1]:{form}}" for stage in shown]
        table.add_row(first, row["criterion"], f"{100 * row['macs']:.1f} %", *numbers)
        last = row["ratio"]
    _console().print(table)


def show_sweep(found: Sweep) -> None:
    """One row per size; a star marks the Pareto front."""
    from topocompress.reporting.quantities import amount, spoken

    measure = spoken(found.measure)
    table = _table(f"{found.criterion}, {measure} against latency")
    for heading in ("MACs left", measure, "latency", "faster", "ONNX file, MB", "front"):
        table.add_column(heading, justify="right", no_wrap=True)
    for point in found.points:
        table.add_row(
            f"{100 * point.macs:.1f} %",
            amount(found.measure, point.quality),
            f"{point.latency:.2f}",
            f"{1 / point.latency:.2f}×",
            f"{point.file_bytes / 1e6:.2f}",
            "*" if point in found.front else "",
        )
    _console().print(table)


def show_advice(report: Report) -> None:
    """What to try where too much was lost, or too little time won; nothing otherwise."""
    from topocompress.reporting.wording import remedies

    for each in remedies(report):
        _console().print(f"[bold]{each.why}[/] What to try, in this order:")
        for number, (what, command) in enumerate(each.steps, 1):
            _say(f"{what}:", start=f"  {number}. ")
            _say(command, start="     ")
