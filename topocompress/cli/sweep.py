"""``topocompress sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from topocompress import console
from topocompress.cli import options, values
from topocompress.cli.opening import Opening, opened
from topocompress.cli.option_groups import grouped
from topocompress.cli.tuning_options import Tuning

if TYPE_CHECKING:
    from topocompress.planning.rules import Allocation


@grouped
def sweep(
    *,
    model: options.Model,
    data: options.DataSource = None,
    macs: Annotated[
        str, typer.Option("--macs", help="Shares of the multiply-accumulates to leave, comma-separated.")
    ] = "0.9,0.8,0.7,0.6,0.5,0.4,0.3",
    criterion: options.CriterionName = "persistence",
    allocation: Annotated[
        str,
        typer.Option(
            "--allocation",
            help="uniform, or global to cut where least is lost for what is saved; auto is global where scores of "
            "different layers can be compared.",
        ),
    ] = "auto",
    tuning: Tuning,
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the results; those that are there are used again.")
    ] = Path("sweep"),
    round_to: Annotated[str, typer.Option("--round-to", help="Kept widths are multiples of this.")] = "auto",
    ignore: options.Ignore = None,
    linear: options.Linear = False,
    samples: options.Samples = "auto",
    eval_samples: options.EvalSamples = "2000",
    opening: Opening,
    memory: options.Memory = None,
    workers: options.Workers = None,
    seed: options.Seed = 0,
) -> None:
    """Cut a network to several sizes; draw accuracy against latency in ONNX Runtime, with the Pareto front."""
    from topocompress.criteria.registry import check_name, create, declared
    from topocompress.planning.rules import check_allocation
    from topocompress.runtime.outputs import check_outputs, folder_of
    from topocompress.workflows.defaults import check_teachable
    from topocompress.workflows.options import Recovery, Removal, Scoring

    shares, recipe = values.shares("--macs", macs), tuning.recipe()
    check_outputs(folder_of(out, "sweep", "points"), inputs=opening.inputs(model, data))
    opening.check(model, data)
    check_teachable(Recovery(finetune=recipe, loss=tuning.loss), data)
    check_name(criterion)
    check_allocation(allocation, {}, declared(criterion).comparable, criterion)
    held_out = options.whole("--eval-samples", eval_samples, options.MOST_SAMPLES)
    asked = options.whole_or_auto("--samples", samples, options.MOST_SAMPLES)
    removal = Removal(
        round_to=options.whole_or_auto("--round-to", round_to),
        allocation=cast("Allocation", allocation),  # an unknown one is refused there
        ignore=tuple(ignore or ()),
        linear=linear,
    )
    made = create(criterion)
    check_allocation(allocation, {}, made.comparable, criterion)
    scoring = Scoring(criterion=made, resources=options.make_resources(memory, workers, None))

    loaded, found = opening.load(model, data, samples=asked, eval_samples=held_out, seed=seed, targets=tuning.own_task)
    for line in opened(loaded, found):
        console.note(line)

    from topocompress.reporting.plots import plot_sweep
    from topocompress.workflows import sweep

    with console.progress() as progress:
        result = sweep.sweep(
            loaded,
            found,
            shares,
            removal=removal,
            scoring=scoring,
            recovery=Recovery(
                finetune=recipe,
                reconstruct=tuning.reconstruct,
                distill_blocks=tuning.distill_blocks,
                metric=tuning.metric,
                loss=tuning.loss,
            ),
            seed=seed,
            out=out,
            progress=progress,
        )
    sweep.write(out / "sweep.json", result)
    plot_sweep(out / "sweep.png", result)
    console.show_sweep(result)
    if result.measure != "accuracy":
        console.note(f"Outputs are compared by {result.compared_by}.")
    console.note(f"Written: {out}/sweep.json, {out}/sweep.png")
    for line in result.warnings:
        console.note(line)
    console.note(sweep.recommendation(result))
