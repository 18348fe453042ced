"""``topocompress inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from topocompress import console
from topocompress.cli import options
from topocompress.cli.opening import Opening, opened
from topocompress.cli.option_groups import grouped
from topocompress.runtime.outputs import Place, check_outputs


@grouped
def inspect(
    *,
    model: options.Model,
    layer: Annotated[str, typer.Option("--layer", help="Name of a convolution or linear layer.", show_default=False)],
    filter_index: Annotated[
        int, typer.Option("--filter", help="Which filter of it, from 0.", max=1_000_000, show_default=False)
    ],
    data: options.DataSource = None,
    out: Annotated[Path, typer.Option("--out", help="Picture to write (.png, .svg or .pdf).")] = Path("filter.png"),
    scale: options.ScaleText = options.DEFAULT_SCALE,
    dims: Annotated[
        str, typer.Option("--dims", help="Homology dimensions to draw, among 0,1,2. With 2, lower --samples to 300.")
    ] = options.DEFAULT_DIMENSIONS,
    samples: Annotated[
        str, typer.Option("--samples", metavar="N", help="Samples N: the points of the cloud.")
    ] = "1000",
    map_size: options.MapSize = None,
    sketch: options.Sketch = None,
    opening: Opening,
    memory: options.Memory = None,
    seed: options.Seed = 0,
) -> None:
    """Draw what one filter sees: barcodes, Betti curves and the cloud of its maps."""
    check_outputs([Place(out, "picture")], inputs=opening.inputs(model, data))
    opening.check(model, data)
    maps, count = options.make_maps(map_size, sketch), options.whole("--samples", samples, options.MOST_SAMPLES)
    budget = None if memory is None else options.bytes_of(memory)
    settings = options.make_criterion("betti", scale, dims).settings()  # refuses a bad scale or dimension
    from topocompress.data.loading import batches
    from topocompress.reporting.persistence_plots import plot_filter
    from topocompress.workflows.inspect import inspect_filter

    loaded, found = opening.load(model, data, samples=count, eval_samples=1, seed=seed, outputs_matter=False)
    for line in opened(loaded, found):
        console.note(line)
    with console.progress() as progress:
        view = inspect_filter(
            loaded.module,
            batches(found.calibration),
            layer=layer,
            filter_index=filter_index,
            scale=settings["scale"],
            dimensions=settings["dimensions"],
            maps=maps,
            memory=budget,
            progress=progress,
        )
    plot_filter(out, view, model=Path(model).name, classes=found.classes)
    console.show_filter(view)
    console.note(f"Written: {out}")
