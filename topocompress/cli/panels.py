"""Help in two sizes: ``--help`` has the options that people use, ``--help-all`` every one; by what they are about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption

PANELS: Mapping[str, tuple[str, ...]] = {
    "Goal": (
        *("max_accuracy_drop", "target_latency", "target_size", "target_macs", "ratio", "max_betti"),
        *("max_metric_drop", "macs", "criteria", "ratios", "criterion", "layer", "filter_index"),
    ),
    "Model and data": (
        *("data", "val_data", "arch", "weights", "weights_key", "arch_args", "trust_pickle", "samples", "eval_samples"),
        *("trained_on", "classes", "unlabelled", "input_size", "resize", "mean", "std", "pixel_range", "download"),
        "strict",
    ),
    "Limits": ("allocation", "min_channels", "max_ratio", "round_to", "ignore", "linear"),
    "Scores": (
        *("scale", "dims", "orientation", "per_class", "thresholds", "map_size", "sketch", "backend", "seeds"),
        "controls",
    ),
    "Recovery": (
        *("finetune", "reconstruct", "distill_blocks", "distill", "iterations", "lr", "schedule", "batch_size"),
        *("accumulate", "distill_weight", "patience", "label_smoothing", "precision", "augment", "metric", "loss"),
        "activation",
    ),
    "Output": ("out", "quantize", "half", "opset", "plot", "force", "dry_run"),
    "Running": (
        *("memory", "workers", "cluster", "resume", "cache", "seed", "batch", "runs", "warmup", "threads", "seconds"),
    ),
}
"""What options are about → their names, of all commands."""

USED: Mapping[str, frozenset[str]] = {
    "prune": frozenset(
        [
            "max_accuracy_drop",
            "target_latency",
            "target_macs",
            "max_betti",
            "data",
            "arch",
            "criterion",
            "finetune",
            "quantize",
            "out",
        ]
    ),
    "score": frozenset(["data", "arch", "criterion", "out", "plot"]),
    "compare": frozenset(["data", "arch", "criteria", "ratios", "seeds", "finetune", "out"]),
    "sweep": frozenset(["data", "arch", "macs", "criterion", "finetune", "out"]),
    "inspect": frozenset(["layer", "filter_index", "data", "arch", "out"]),
}
"""Command → options that ``--help`` shows; all of a command that is not here."""

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "prune": (
        "topocompress prune model.pt --data photos --max-accuracy-drop 1",
        "topocompress prune model.pt --target-latency 0.6 --quantize int8",
    ),
    "score": ("topocompress score model.pt --data photos --plot scores.png",),
    "compare": ("topocompress compare model.pt --data photos --criteria persistence,l1,random",),
    "sweep": ("topocompress sweep model.pt --data photos --macs 0.8,0.6,0.4",),
    "inspect": ("topocompress inspect model.pt --layer layer1.0.conv1 --filter 3 --data photos",),
    "bench": ("topocompress bench run/original.onnx run/model.onnx",),
    "criteria": ("topocompress criteria",),
    "demo": ("topocompress demo",),
}

WHOLE = "--help-all"


class Command(TyperCommand):
    """A command whose options stand in panels, and whose ``--help`` has those that people use."""

    def __init__(self, name: str, **settings: Any) -> None:
        super().__init__(name, **settings)
        panel_of = {option: panel for panel, options in PANELS.items() for option in options}
        options = [each for each in self.params if isinstance(each, TyperOption)]
        for option in options:
            option.rich_help_panel = panel_of.get(str(option.name))
        order = [option for options in PANELS.values() for option in options]
        options.sort(key=lambda each: order.index(str(each.name)) if each.rich_help_panel else -1)
        self.params = [*(each for each in self.params if not isinstance(each, TyperOption)), *options]
        used = USED.get(name)
        self._rest = [each for each in options if used is not None and each.name not in used]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Panels, and below them examples, each on a line to copy."""
        super().format_help(ctx, formatter)
        lines = [f"  {example}" for example in EXAMPLES.get(str(self.name), ())]
        hidden = sum(option.hidden for option in self._rest)
        more = [f" {WHOLE} has {hidden} options more."] if hidden else []
        typer.echo("\n".join((*more, *([" For example:", *lines] if lines else []))))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """``--help-all`` is the whole help, whatever else is there."""
        if WHOLE in args:
            typer.echo(self.get_help(ctx), color=ctx.color)
            ctx.exit()
        for option in self._rest:  # of --help alone, which is asked for while arguments are read
            option.hidden = True
        try:
            return super().parse_args(ctx, args)
        finally:
            for option in self._rest:
                option.hidden = False
