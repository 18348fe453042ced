"""``topocompress demo``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from topocompress import console
from topocompress.cli.running import run


def demo(
    out: Annotated[Path, typer.Option("--out", help="Directory to write.")] = Path("digits-pruned"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing --out.")] = False,
) -> None:
    """Prune the small network that comes with topocompress: the whole job, offline, in under a minute."""
    from topocompress.criteria import Betti
    from topocompress.data.loading import load_data
    from topocompress.models.loading import load_model
    from topocompress.runtime.outputs import Place, check_outputs
    from topocompress.workflows.options import Output, Removal, Scoring

    check_outputs([Place(out, "run", force=force)])
    samples, max_betti = 500, 120
    command = ["prune", "digits", "--max-betti", str(max_betti), "--samples", str(samples), "--out", str(out)]
    console.note(f"topocompress {shlex.join(command)}")
    loaded = load_model("digits")
    data = load_data("digits", preprocessing=loaded.preprocessing, samples=samples)
    run(
        loaded,
        data,
        removal=Removal(max_betti=max_betti),
        scoring=Scoring(criterion=Betti(), samples=samples),
        output=Output(out=out, force=force, command=command),
    )
