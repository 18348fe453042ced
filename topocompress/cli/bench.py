"""``topocompress bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from topocompress import console
from topocompress.cli import options, values
from topocompress.cli.opening import InputSize


def bench(
    files: Annotated[list[Path], typer.Argument(help="ONNX files, the one to compare with first.")],
    batch: Annotated[str, typer.Option("--batch", help="Batch sizes, comma-separated.")] = "1,8",
    runs: Annotated[int, typer.Option("--runs", help="Timed inferences per batch size.", max=options.MOST_ROUNDS)] = 50,
    warmup: Annotated[int, typer.Option("--warmup", help="Inferences that do not count.", max=options.MOST_ROUNDS)] = 5,
    threads: Annotated[
        int | None, typer.Option("--threads", help="Threads; one per core if absent.", max=options.MOST_THREADS)
    ] = None,
    seconds: Annotated[str, typer.Option("--seconds", metavar="TIME", help="Time budget per batch size.")] = "60",
    input_size: InputSize = None,
    out: Annotated[Path | None, typer.Option("--json", help="Write everything measured to this file.")] = None,
    seed: options.Seed = 0,
) -> None:
    """Time ONNX files against each other, interleaved, with a confidence interval for each ratio."""
    from topocompress.runtime.files import check_there
    from topocompress.runtime.outputs import Place, check_outputs

    check_there(files)
    if out is not None:
        check_outputs([Place(out, "file", option="--json")], inputs=files)
    size, budget = values.pixels(input_size), values.seconds("--seconds", seconds)
    from topocompress.deploy.bench import bench as measure
    from topocompress.reporting.write import write_bench

    with console.progress() as progress:
        found = measure(
            files,
            batch_sizes=values.whole_numbers("--batch", batch, 65_536),
            runs=runs,
            warmup=warmup,
            threads=threads,
            max_seconds=budget,
            input_size=(size, size) if isinstance(size, int) else size,
            seed=seed,
            progress=progress,
        )
    if out is not None:
        write_bench(out, found)
    console.show_bench(found)
    if out is not None:
        console.note(f"Written: {out}")
