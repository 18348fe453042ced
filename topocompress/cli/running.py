"""What prune and demo share: run the job with a progress bar, then show what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from topocompress import console
from topocompress.cli.opening import opened
from topocompress.training import processes

if TYPE_CHECKING:
    from topocompress.data.loading import Data
    from topocompress.models.loading import LoadedModel
    from topocompress.workflows.options import Output

OVER_BUDGET = 3
"""Exit code where files were written, but nothing kept to the budget."""


def run(loaded: LoadedModel, data: Data, *, output: Output, **settings: Any) -> None:
    """Compress, then print the plan (dry run) or the report; exit code 3 where that is outside its budget.

    Raises:
        TopocompressError: As :func:`topocompress.compress`.
    """
    from topocompress.reporting import budgets
    from topocompress.reporting.quantities import comparison_table
    from topocompress.reporting.wording import fewer_bits, headline, stage_lines
    from topocompress.types import in_fewer_bits
    from topocompress.workflows.compress import compress
    from topocompress.workflows.delivery import FILE_OF

    said = opened(loaded, data) if processes.is_main() else []
    for line in said:
        console.note(line)
    with console.progress() as progress:
        result = compress(loaded, data, output=output, progress=progress, **settings)
    if not processes.is_main():
        return
    if result.report is None:
        console.show_plan(result.plan)
        return
    report = result.report
    if over := budgets.missed(report.budget, (report.before, report.after)):
        console.show_warning(over)
    lines = [headline(report), *stage_lines(report), *fewer_bits(report).values()]
    if report.budget is not None:
        lines.append(budgets.line(report.budget))
    console.show_report(report, comparison_table(report), lines, said=[over, *said])
    smaller = "".join(f"{FILE_OF[kind]}, " for kind in in_fewer_bits(report))
    files = f"model.onnx, {smaller}original.onnx, model.safetensors, plan.json, report.json, .md and .html"
    console.note(f"Written: {output.out}/ ({files})")
    console.show_advice(report)
    if report.budget is not None and not report.budget.kept:
        raise typer.Exit(OVER_BUDGET)
