"""Options of fine-tuning, and how they become a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

import typer

from topocompress.cli.options import MOST_EPOCHS
from topocompress.errors import DataError

if TYPE_CHECKING:
    from topocompress.training.recipe import Precision, Recipe, Schedule

_PANEL = "Fine-tuning"
_WEIGHT = 0.5

Finetune = Annotated[
    int,
    typer.Option(
        "--finetune",
        help="Epochs of fine-tuning; needs labels, or --distill.",
        min=0,
        max=MOST_EPOCHS,
        rich_help_panel=_PANEL,
    ),
]
Rate = Annotated[float, typer.Option("--lr", help="Peak learning rate.", rich_help_panel=_PANEL)]
RateSchedule = Annotated[
    str, typer.Option("--schedule", help="How the learning rate runs: cosine or one-cycle.", rich_help_panel=_PANEL)
]
BatchSize = Annotated[
    int,
    typer.Option(
        "--batch-size", help="Samples of one pass, over all processes.", max=1_000_000, rich_help_panel=_PANEL
    ),
]
Accumulate = Annotated[
    int, typer.Option("--accumulate", help="Passes whose gradients make one step.", max=100_000, rich_help_panel=_PANEL)
]
Distill = Annotated[
    bool,
    typer.Option(
        "--distill",
        help="With --finetune: learn the unpruned network's outputs too, or alone, without labels; for many images "
        "(for few: --distill-blocks).",
        rich_help_panel=_PANEL,
    ),
]
DistillWeight = Annotated[
    float | None,
    typer.Option(
        "--distill-weight",
        help="Weight in 0..1 of learning from the unpruned network; the rest is the labels'.",
        show_default="0.5 with --distill",
        rich_help_panel=_PANEL,
    ),
]
Patience = Annotated[
    int | None,
    typer.Option(
        "--patience", help="Stop after as many epochs without a better one.", max=MOST_EPOCHS, rich_help_panel=_PANEL
    ),
]
LabelSmoothing = Annotated[
    float,
    typer.Option("--label-smoothing", help="Share in 0..1 of the target that all classes get.", rich_help_panel=_PANEL),
]
Bits = Annotated[str, typer.Option("--precision", help="no (float32), bf16, or fp16 on a GPU.", rich_help_panel=_PANEL)]
Augment = Annotated[
    bool | None,
    typer.Option(
        "--augment/--no-augment",
        help="Shift and, where natural, mirror training images.",
        show_default="on for named data",
        rich_help_panel=_PANEL,
    ),
]


Reconstruct = Annotated[
    bool, typer.Option(help="Refit what reads pruned channels first, without labels, where that does good.")
]


DistillBlocks = Annotated[
    int,
    typer.Option(
        "--distill-blocks",
        help="Epochs, about 40, in which each block learns its own outputs of before, without labels; for few images "
        "(for many: --finetune with --distill).",
        max=MOST_EPOCHS,
    ),
]


MetricName = Annotated[
    str | None,
    typer.Option(
        "--metric",
        help="Judge networks by pkg.module:function: from (outputs, targets), batch by batch, to one number, the "
        "higher the better.",
    ),
]
LossName = Annotated[
    str | None,
    typer.Option(
        "--loss",
        help="Minimise pkg.module:function in fine-tuning: from a batch's outputs and targets to a loss.",
        rich_help_panel=_PANEL,
    ),
]


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How a network recovers what removal cost."""

    reconstruct: Reconstruct = True
    distill_blocks: DistillBlocks = 0
    metric: MetricName = None
    loss: LossName = None

    finetune: Finetune = 0
    lr: Rate = 0.01
    schedule: RateSchedule = "cosine"
    batch_size: BatchSize = 128
    accumulate: Accumulate = 1
    distill: Distill = False
    distill_weight: DistillWeight = None
    patience: Patience = None
    label_smoothing: LabelSmoothing = 0.0
    precision: Bits = "no"
    augment: Augment = None

    @property
    def own_task(self) -> bool:
        """Whether the data's targets are for a metric or a loss of the user's own."""
        return bool(self.metric or self.loss)

    def recipe(self) -> Recipe:
        """The recipe that the options ask for.

        Raises:
            DataError: Something is out of range, or distillation without epochs.
        """
        from topocompress.training.recipe import Recipe

        if (self.distill or self.distill_weight) and not self.finetune:
            raise DataError("--distill is a way of fine-tuning", hint="Add --finetune with some epochs.")
        weight = _WEIGHT if self.distill else 0.0
        return Recipe(
            epochs=self.finetune,
            lr=self.lr,
            schedule=cast("Schedule", self.schedule),
            batch_size=self.batch_size,
            accumulate=self.accumulate,
            distill=weight if self.distill_weight is None else self.distill_weight,
            patience=self.patience,
            label_smoothing=self.label_smoothing,
            precision=cast("Precision", self.precision),
            augment=self.augment,
        )
