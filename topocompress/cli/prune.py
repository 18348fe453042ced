"""``topocompress prune``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from topocompress import console
from topocompress.cli import options, values
from topocompress.cli.opening import Opening
from topocompress.cli.option_groups import grouped
from topocompress.cli.running import run
from topocompress.cli.tuning_options import Tuning

if TYPE_CHECKING:
    from topocompress.planning.rules import Allocation


@grouped
def prune(
    *,
    model: options.Model,
    max_betti: Annotated[
        float | None, typer.Option("--max-betti", help="Remove the filters whose Betti number is above this.")
    ] = None,
    ratio: Annotated[
        str | None,
        typer.Option("--ratio", metavar="SHARE", help="Remove this share of each layer's filters, such as 0.3 or 30%."),
    ] = None,
    target_macs: Annotated[
        str | None,
        typer.Option("--target-macs", metavar="SHARE", help="Share of the multiply-accumulates to leave."),
    ] = None,
    max_accuracy_drop: Annotated[
        str | None,
        typer.Option(
            "--max-accuracy-drop",
            metavar="POINTS",
            help="Points of accuracy that may go; found by trying. 1 if no goal is given.",
        ),
    ] = None,
    max_metric_drop: Annotated[
        float | None,
        typer.Option("--max-metric-drop", help="Remove what costs no more of the --metric; found by trying."),
    ] = None,
    target_latency: Annotated[
        str | None,
        typer.Option(
            "--target-latency", metavar="SHARE", help="Share of the latency in ONNX Runtime to leave; found by trying."
        ),
    ] = None,
    target_size: Annotated[
        str | None,
        typer.Option("--target-size", metavar="SIZE", help="Leave what fits an ONNX file of this size, such as 2MB."),
    ] = None,
    allocation: Annotated[
        str,
        typer.Option(
            "--allocation",
            help="Where a share of the multiply-accumulates goes: uniform, or global to cut where least is lost for "
            "it; auto is global where scores of different layers can be compared.",
        ),
    ] = "auto",
    data: options.DataSource = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory to write.", show_default="MODEL-pruned beside the model")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing --out.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    tuning: Tuning,
    iterations: Annotated[
        int,
        typer.Option(
            "--iterations",
            help="Iterative pruning: score, remove a part and fine-tune, so many times, instead of once.",
            max=100,
        ),
    ] = 1,
    quantize: Annotated[
        str | None, typer.Option("--quantize", help="int8: write and measure a file in 8 bits as well.")
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Write and measure a file in 16 bits as well.")] = False,
    opset: Annotated[
        int | None,
        typer.Option("--opset", help="ONNX opset of the files, 18 to 23.", show_default="the exporter's own choice"),
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option("--activation", help="topological: swap activations; --finetune learns how strongly they fold."),
    ] = None,
    criterion: options.AnyCriterion = None,
    scale: options.ScaleText = options.DEFAULT_SCALE,
    dims: options.Dims = options.DEFAULT_DIMENSIONS,
    orientation: options.Orientation = options.DEFAULT_ORIENTATION,
    per_class: options.PerClass = False,
    min_channels: Annotated[
        int, typer.Option("--min-channels", help="Channels that each layer keeps at least.", max=1_000_000)
    ] = 1,
    max_ratio: Annotated[
        str | None,
        typer.Option(
            "--max-ratio",
            metavar="SHARE",
            help="Largest share of a layer that may go.",
            show_default="0.5 with --max-betti",
        ),
    ] = None,
    round_to: Annotated[
        str, typer.Option("--round-to", help="Kept widths are multiples of this; aligned widths run faster.")
    ] = "auto",
    ignore: options.Ignore = None,
    linear: options.Linear = False,
    controls: Annotated[
        bool, typer.Option(help="Measure random and L1 choices of the same widths, where there are labels.")
    ] = True,
    samples: options.Samples = "auto",
    eval_samples: options.EvalSamples = "2000",
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
    """Remove filters from a trained network, export it to ONNX and report what it cost."""
    from topocompress.criteria.registry import check_name
    from topocompress.runtime.outputs import Place, check_outputs
    from topocompress.workflows.defaults import AUTO, check_teachable, criterion_for, judges_for, settled_rule
    from topocompress.workflows.options import Output, Recovery, Removal, Scoring, check

    out = out or options.default_out(model)
    if not dry_run:
        check_outputs([Place(out, "run", force=force)], inputs=opening.inputs(model, data))
    removal = Removal(
        max_betti=max_betti,
        ratio=values.share("--ratio", ratio),
        target_macs=values.share("--target-macs", target_macs),
        max_accuracy_drop=values.points("--max-accuracy-drop", max_accuracy_drop),
        max_metric_drop=max_metric_drop,
        target_latency=values.share("--target-latency", target_latency),
        target_size=None if target_size is None else options.bytes_of(target_size, "--target-size"),
        min_channels=min_channels,
        max_ratio=values.share("--max-ratio", max_ratio),
        round_to=options.whole_or_auto("--round-to", round_to),
        ignore=tuple(ignore or ()),
        linear=linear,
        allocation=cast("Allocation", allocation),  # an unknown one is refused there
        iterations=iterations,
    )
    opening.check(model, data)
    removal, taken = settled_rule(removal, model, data, unlabelled=opening.unlabelled)
    of_betti = options.betti_asked(scale, dims, backend, orientation, per_class)
    usual = "betti" if of_betti else str(criterion_for(AUTO, removal))
    name = usual if criterion is None else criterion
    held_out = options.whole("--eval-samples", eval_samples, options.MOST_SAMPLES)
    scoring = Scoring(criterion=name, samples=options.whole_or_auto("--samples", samples, options.MOST_SAMPLES))
    recovery = Recovery(
        finetune=tuning.recipe(),
        activation=activation,
        reconstruct=tuning.reconstruct,
        distill_blocks=tuning.distill_blocks,
        metric=tuning.metric,
        loss=tuning.loss,
    )
    output = Output(
        out=out,
        force=force,
        dry_run=dry_run,
        quantize=quantize,
        half=half,
        opset=opset,
        controls=controls,
        command=tuple(sys.argv[1:]),
    )
    check(removal, scoring, recovery, output)  # what can be refused without torch is refused first
    if taken:
        console.note(taken)
    check_teachable(recovery, data)
    check_name(name)
    scoring = replace(
        scoring,
        criterion=options.make_criterion(name, scale, dims, backend, orientation, per_class),
        resources=options.make_resources(memory, workers, cluster),
    )
    check(removal, scoring, recovery, output)

    loaded, found = opening.load(
        model,
        data,
        samples=scoring.samples,
        eval_samples=held_out,
        seed=seed,
        targets=tuning.own_task,
        judging=judges_for(removal),
    )
    run(
        loaded,
        found,
        removal=removal,
        scoring=replace(scoring, maps=options.make_maps(map_size, sketch)),
        recovery=recovery,
        output=output,
        seed=seed,
        cache=options.cache_folder(cache),
        resume=resume,
    )
