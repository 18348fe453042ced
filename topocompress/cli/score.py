"""``topocompress score``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from topocompress import console
from topocompress.cli import options
from topocompress.cli.opening import Opening, opened
from topocompress.cli.option_groups import grouped
from topocompress.errors import PlanError
from topocompress.runtime.outputs import Place, check_outputs

_MOST_THRESHOLDS = 20


@grouped
def score(
    *,
    model: options.Model,
    data: options.DataSource = None,
    out: Annotated[Path, typer.Option("--out", help="File for all scores.")] = Path("scores.json"),
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the distribution (.png, .svg or .pdf).")] = None,
    thresholds: Annotated[
        str, typer.Option("--thresholds", help="Thresholds to count filters above, comma-separated.")
    ] = "100,200,300,400,500",
    criterion: options.CriterionName = "betti",
    scale: options.ScaleText = options.DEFAULT_SCALE,
    dims: options.Dims = options.DEFAULT_DIMENSIONS,
    orientation: options.Orientation = options.DEFAULT_ORIENTATION,
    per_class: options.PerClass = False,
    ignore: options.Ignore = None,
    linear: options.Linear = False,
    samples: options.Samples = "auto",
    opening: Opening,
    memory: options.Memory = None,
    workers: options.Workers = None,
    cluster: options.Cluster = None,
    map_size: options.MapSize = None,
    sketch: options.Sketch = None,
    backend: options.Backend = None,
    resume: options.Resume = False,
    cache: options.Cache = True,
    seed: options.Seed = 0,
) -> None:
    """Score every filter and show the distribution per layer; nothing is removed."""
    marks, count = _thresholds(thresholds), options.whole_or_auto("--samples", samples, options.MOST_SAMPLES)
    places = [Place(out, "file"), *([] if plot is None else [Place(plot, "picture", option="--plot")])]
    check_outputs(places, inputs=opening.inputs(model, data))
    from topocompress.criteria.registry import check_name

    opening.check(model, data)
    check_name(criterion)
    from topocompress.criteria import GradientCriterion
    from topocompress.reporting.describe import layer_rows, scoring, scoring_lines
    from topocompress.reporting.wording import scales_taken
    from topocompress.reporting.write import write_scores
    from topocompress.surgery.trial import prunable_groups
    from topocompress.workflows.job import Job
    from topocompress.workflows.options import Scoring
    from topocompress.workflows.sampling import threshold_share
    from topocompress.workflows.selecting import score_job

    chosen = options.make_criterion(criterion, scale, dims, backend, orientation, per_class)
    asked = Scoring(
        criterion=chosen,
        resources=options.make_resources(memory, workers, cluster),
        maps=options.make_maps(map_size, sketch),
    )
    reads_labels = isinstance(chosen, GradientCriterion) and chosen.needs_labels
    loaded, found = opening.load(model, data, samples=count, eval_samples=1, seed=seed, outputs_matter=reads_labels)
    for line in opened(loaded, found):
        console.note(line)
    marks = [mark * threshold_share(found) for mark in marks]
    with console.progress() as progress:
        job = Job(
            loaded=loaded,
            data=found,
            seed=seed,
            progress=progress,
            scoring=asked,
            cache=options.cache_folder(cache),
            resume=resume,
        )
        scores = score_job(job, prunable_groups(job.model, job.example, ignore=ignore or (), linear=linear))
    write_scores(out, scores)
    if plot is not None:
        from topocompress.reporting.plots import plot_scores

        plot_scores(plot, scores, marks if scores.criterion == "betti" else ())
    console.show_layers(layer_rows(scores, marks if scores.higher == "remove" else ()), scores.criterion)
    for line in (*scales_taken(scoring(scores)), *scoring_lines(scores)):
        console.note(line)
    console.note(f"Written: {out}" + (f", {plot}" if plot else ""))


def _thresholds(text: str) -> list[float]:
    try:
        found = sorted(float(word) for word in text.split(","))
    except ValueError:
        found = []
    if not 0 < len(found) <= _MOST_THRESHOLDS or not all(map(math.isfinite, found)):
        raise PlanError(f"cannot read --thresholds {text[:80]!r}", hint="For example: --thresholds 100,300")
    return found
