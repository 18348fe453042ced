"""``topocompress compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from topocompress import console
from topocompress.cli import options, values
from topocompress.cli.opening import Opening, opened
from topocompress.cli.option_groups import grouped
from topocompress.cli.tuning_options import Tuning
from topocompress.errors import CriterionError


@grouped
def compare(
    *,
    model: options.Model,
    data: options.DataSource = None,
    criteria: Annotated[
        str,
        typer.Option(
            "--criteria",
            help="Names, comma-separated; settings may follow a name (betti+orientation=inverse), and @global, with "
            "which it also chooses where to cut (persistence@global).",
        ),
    ] = "persistence,betti,taylor,l1,random",
    ratios: Annotated[
        str, typer.Option("--ratios", help="Shares of each layer's filters to remove, comma-separated.")
    ] = "0.125,0.25,0.375,0.5",
    seeds: Annotated[int, typer.Option("--seeds", help="Sets of calibration samples.", min=1, max=1000)] = 3,
    tuning: Tuning,
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the results; those that are there are used again.")
    ] = Path("comparison"),
    round_to: Annotated[str, typer.Option("--round-to", help="Kept widths are multiples of this.")] = "auto",
    ignore: options.Ignore = None,
    samples: Annotated[str, typer.Option("--samples", metavar="N", help="Calibration samples of each seed.")] = "500",
    eval_samples: options.EvalSamples = "2000",
    opening: Opening,
) -> None:
    """Let criteria compete on your model: same widths, same samples, same fine-tuning; says which to use."""
    from topocompress.runtime.outputs import check_outputs, folder_of

    shares, recipe = values.shares("--ratios", ratios), tuning.recipe()
    check_outputs(folder_of(out, "compare", "cells"), inputs=opening.inputs(model, data))
    count, held_out = (
        options.whole(option, text, options.MOST_SAMPLES)
        for option, text in (("--samples", samples), ("--eval-samples", eval_samples))
    )
    rounding = options.whole_or_auto("--round-to", round_to)
    from topocompress.criteria.registry import check_name, declared, split_names
    from topocompress.planning.rules import Limits, check_allocation
    from topocompress.workflows.defaults import check_teachable
    from topocompress.workflows.options import Recovery

    names = split_names(criteria)
    opening.check(model, data)
    check_teachable(Recovery(finetune=recipe, loss=tuning.loss), data)
    _ = Limits(round_to=rounding)
    for name in names:
        plain, at, allocation = name.partition("@")
        check_name(plain)
        if at and allocation != "global":
            raise CriterionError(f"cannot read {name!r}", hint=f"Write {plain}, or {plain}@global.")
        check_allocation(allocation or "auto", {}, declared(plain).comparable, plain)
    from topocompress.network.inference import sample_count

    loaded, found = opening.load(
        model, data, samples=count * seeds, eval_samples=held_out, seed=0, targets=tuning.own_task
    )
    there = sample_count(found.calibration)
    for line in opened(loaded, found):
        console.note(line)
    if there < count * seeds:
        count = max(2, there // seeds)
        console.note(f"Each of the {seeds} sets has {count} calibration samples.")
    from topocompress.reporting import verdicts
    from topocompress.reporting.plots import plot_comparison
    from topocompress.reporting.quantities import amount, spoken, unit_of
    from topocompress.workflows.compare import compare as run

    with console.progress() as progress:
        comparison = run(
            loaded,
            found,
            criteria=names,
            ratios=shares,
            samples=count,
            seeds=seeds,
            finetune=recipe,
            reconstruct=tuning.reconstruct,
            distill_blocks=tuning.distill_blocks,
            metric=tuning.metric,
            loss=tuning.loss,
            ignore=ignore or (),
            round_to=rounding,
            out=out,
            progress=progress,
        )
    verdicts.write(out / "compare.json", comparison)
    plot_comparison(out / "compare.png", comparison)
    (factor, unit), name = unit_of(comparison.measure), spoken(comparison.measure)
    title, form = (f"{name} left, %", ".1f") if unit else (f"{name} left", ".4g")
    console.show_comparison(verdicts.rows(comparison), title, factor, form)
    if comparison.measure != "accuracy":
        console.note(f"Outputs are compared by {comparison.compared_by}.")
    console.note(
        f"Original: {spoken(comparison.measure)} {amount(comparison.measure, comparison.original)}. "
        f"Written: {out}/compare.json, .png"
    )
    for name, settings in comparison.adapted:
        console.note(
            f"{name} took {settings}, which suits what follows removal; a setting behind its name has priority."
        )
    for _, why in comparison.left_out:
        console.note(f"Left out: {why}.")
    for line in comparison.warnings:
        console.note(line)
    console.note(verdicts.recommendation(comparison))
