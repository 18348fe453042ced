"""What prune and demo share: run the job with a progress bar, then show what it says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topocompress import console, ranks

if TYPE_CHECKING:
    from topocompress.data import Data
    from topocompress.models import LoadedModel


def run(loaded: LoadedModel, data: Data, *, out: Path, dry_run: bool, command: Sequence[str], **settings: Any) -> None:
    """Compress, then print the plan (dry run) or the report.

    Raises:
        TopocompressError: As :func:`topocompress.compress`.
    """
    from topocompress.pipeline import compress
    from topocompress.quantities import comparison_rows
    from topocompress.wording import headline, stage_lines

    with console.progress() as progress:
        result = compress(
            loaded,
            data,
            out=None if dry_run else out,
            dry_run=dry_run,
            command=command,
            progress=progress,
            **settings,
        )
    if not ranks.is_main():
        return
    if result.report is None:
        for line in (loaded.note, data.note):
            if line:
                console.note(line)
        console.show_plan(result.plan)
        return
    report = result.report
    console.show_report(report, comparison_rows(report), [headline(report), *stage_lines(report)])
    console.note(f"Written: {out}/ (model.onnx, model.safetensors, plan.json, report.json, .md and .html)")
    console.show_remedies(report)
