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
    from topocompress.data import load_data
    from topocompress.files import check_free
    from topocompress.models import load_model

    check_free(out, force=force)
    command = ["prune", "digits", "--max-betti", "300", "--finetune", "5", "--out", str(out)]
    console.note(f"topocompress {shlex.join(command)}")
    loaded = load_model("digits")
    data = load_data("digits", preprocessing=loaded.preprocessing)
    run(loaded, data, out=out, dry_run=False, command=command, max_betti=300, finetune_epochs=5, force=force)
