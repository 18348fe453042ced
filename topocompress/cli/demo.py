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
    from topocompress.runtime.files import check_free
    from topocompress.workflows.options import Output, Recovery, Removal, Scoring

    check_free(out, force=force)
    # The digits are so alike that at the default scale every cloud is one lump; a finer scale tells filters apart.
    scale, samples, max_betti, epochs = "quantile:0.01", 500, 150, 5
    command = ["prune", "digits", "--max-betti", str(max_betti), "--scale", scale, "--samples", str(samples)]
    command += ["--finetune", str(epochs), "--out", str(out)]
    console.note(f"topocompress {shlex.join(command)}")
    loaded = load_model("digits")
    data = load_data("digits", preprocessing=loaded.preprocessing, samples=samples)
    run(
        loaded,
        data,
        removal=Removal(max_betti=max_betti),
        scoring=Scoring(criterion=Betti(scale=scale), samples=samples),
        recovery=Recovery(finetune=epochs),
        output=Output(out=out, force=force, command=command),
    )
