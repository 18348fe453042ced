"""What may be asked of a job, in four groups: what to remove, how to score, how to recover, what to deliver.

Checked here as far as it can be without a model: torch is not loaded, so that a mistake on the command line is
answered at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from topocompress.criteria.base import CloudCriterion
from topocompress.criteria.registry import declared
from topocompress.deploy.opsets import check_opset
from topocompress.errors import PlanError
from topocompress.models.factories import is_factory
from topocompress.planning.rules import (
    USUAL_SAMPLES,
    Allocation,
    Limits,
    check_activation,
    check_allocation,
    check_block_epochs,
    check_iterations,
    check_quantize,
    check_rule,
    check_samples,
)
from topocompress.runtime.arguments import check_fields
from topocompress.training.recipe import Recipe
from topocompress.workflows.defaults import AUTO, criterion_for

if TYPE_CHECKING:
    from topocompress.criteria.base import Criterion
    from topocompress.network.capture import Maps
    from topocompress.network.task import Loss, Metric
    from topocompress.runtime.resources import Resources

_RULES = ("max_betti", "ratio", "target_macs", "max_accuracy_drop", "max_metric_drop", "target_latency", "target_size")


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What to remove: one rule, within limits.

    Attributes:
        max_betti: Remove channels whose Betti number lies above this.
        ratio: Remove this share of each group's channels, 0..1.
        target_macs: Leave this share of the multiply-accumulates, 0..1.
        max_accuracy_drop: Remove as much as costs no more than so many points of top-1 accuracy, after fine-tuning if
            there is any. This and the next three are found by trying, and every try is in the report.
        max_metric_drop: The same of the user's own metric, in its unit.
        target_latency: Leave as much as takes no more than this share of the original's latency in ONNX Runtime, 0..1.
        target_size: Leave as much as an ONNX file of so many bytes holds.
        min_channels: Channels that each group keeps at least.
        max_ratio: Largest share of a group that may go; 0.5 with ``max_betti``.
        round_to: Kept widths are multiples of it; see :class:`~topocompress.planning.rules.Limits`.
        ignore: Shell-style patterns of layers whose groups stay whole.
        linear: Whether linear layers that see a vector per sample may be pruned too.
        allocation: With ``target_macs`` and budgets, ``global`` cuts where least is lost for what is saved; ``auto``
            does where scores of different layers can be compared.
        iterations: Of iterative pruning: in so many the channels go, each scored anew and followed by fine-tuning.

    Raises:
        OptionError: A field is of another type; so also of the other groups.
        PlanError: A limit is out of range.
    """

    max_betti: float | None = None
    ratio: float | None = None
    target_macs: float | None = None
    max_accuracy_drop: float | None = None
    max_metric_drop: float | None = None
    target_latency: float | None = None
    target_size: float | None = None
    min_channels: int = 1
    max_ratio: float | None = None
    round_to: int | Literal["auto"] = "auto"
    ignore: Sequence[str] = ()
    linear: bool = False
    allocation: Allocation = "auto"
    iterations: int = 1

    def __post_init__(self) -> None:
        check_fields(self)
        check_allocation(self.allocation, {}, None, "")
        _ = self.limits

    @property
    def limits(self) -> Limits:
        """What no rule may overstep."""
        return Limits(min_channels=self.min_channels, max_ratio=self.max_ratio, round_to=self.round_to)

    @property
    def rule(self) -> dict[str, float]:
        """The rules that were given, as {name: value}."""
        return {name: value for name in _RULES if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How to score.

    Attributes:
        criterion: Registered name or instance; used as it suits what follows (:meth:`Criterion.suited`). ``auto`` is
            ``betti`` with ``max_betti``, else ``persistence``.
        samples: Calibration samples, where the data is yet to be loaded; must exceed ``max_betti``. ``auto`` takes
            1,000, or fewer for a large network, to which ``max_betti`` is then scaled.
        classes: Names of the network's outputs in their order, or how the data's classes are numbered; see
            :func:`topocompress.data.load_data`.
        unlabelled: Leave out all labels.
        resources: Memory and processes, on which the result does not depend; ``None`` for what the machine has.
        maps: How feature maps become the points of clouds; ``None`` as the criterion has it.
    """

    criterion: str | Criterion = AUTO
    samples: int | Literal["auto"] = AUTO
    classes: Sequence[str] | str | Path | None = None
    unlabelled: bool = False
    resources: Resources | None = None
    maps: Maps | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """How to recover what removal cost.

    Attributes:
        finetune: How to fine-tune, or for how many epochs; needs labels, or distillation.
        activation: ``topological`` swaps activations before fine-tuning, which then learns their amplitudes.
        reconstruct: Refit what reads pruned channels right after removal, without labels, where that does good.
        distill_blocks: Epochs on the calibration samples, without labels, in which blocks then learn to give what they
            gave before, where that does good.
        metric: What networks are judged by in place of accuracy or likeness, see
            :data:`topocompress.network.task.Metric`: a function, or ``pkg.module:function``.
        loss: What fine-tuning minimises in place of cross-entropy, see :data:`topocompress.network.task.Loss`.
    """

    finetune: Recipe | int = 0
    activation: str | None = None
    reconstruct: bool = True
    distill_blocks: int = 0
    metric: Metric | str | None = None
    loss: Loss | str | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def recipe(self) -> Recipe:
        """How to fine-tune."""
        return self.finetune if isinstance(self.finetune, Recipe) else Recipe(epochs=self.finetune)

    @property
    def epochs(self) -> int:
        """Epochs of fine-tuning."""
        return self.finetune.epochs if isinstance(self.finetune, Recipe) else self.finetune


@dataclass(frozen=True, kw_only=True)
class Output:
    """What to deliver.

    Attributes:
        out: Run directory to write; nothing is written if ``None``.
        force: Replace an existing run directory.
        dry_run: Stop after the plan.
        quantize: ``int8`` writes and measures a file in 8 bits as well.
        half: Whether one in 16 bits is written and measured as well.
        opset: Version of ONNX's operators, 18..23 (of detectors ..20); the exporter's own choice if ``None``.
        controls: Measure the same widths chosen at random and by L1, where there are labels.
        command: The command line for the report and its advice, without the program's name.
    """

    out: str | Path | None = None
    force: bool = False
    dry_run: bool = False
    quantize: str | None = None
    half: bool = False
    opset: int | None = None
    controls: bool = True
    command: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_fields(self)


class Options(TypedDict, total=False):
    """Every field of the four groups, for those who pass them directly."""

    max_betti: float | None
    ratio: float | None
    target_macs: float | None
    max_accuracy_drop: float | None
    max_metric_drop: float | None
    target_latency: float | None
    target_size: float | None
    min_channels: int
    max_ratio: float | None
    round_to: int | Literal["auto"]
    ignore: Sequence[str]
    linear: bool
    allocation: Allocation
    iterations: int
    criterion: str | Criterion
    samples: int | Literal["auto"]
    classes: Sequence[str] | str | Path | None
    unlabelled: bool
    resources: Resources | None
    maps: Maps | None
    finetune: Recipe | int
    activation: str | None
    reconstruct: bool
    distill_blocks: int
    metric: Metric | str | None
    loss: Loss | str | None
    out: str | Path | None
    force: bool
    dry_run: bool
    quantize: str | None
    half: bool
    opset: int | None
    controls: bool
    command: Sequence[str]


def with_options(
    removal: Removal, scoring: Scoring, recovery: Recovery, output: Output, options: Mapping[str, Any]
) -> tuple[Removal, Scoring, Recovery, Output]:
    """The groups with options in place of their own values.

    Raises:
        TypeError: An option is no field of any group.
    """
    if unknown := set(options) - Options.__optional_keys__:
        raise TypeError(f"compress() got an unexpected keyword argument {min(unknown)!r}")

    def own(group: type[Any]) -> dict[str, Any]:
        return {field.name: options[field.name] for field in fields(group) if field.name in options}

    return (
        replace(removal, **own(Removal)),
        replace(scoring, **own(Scoring)),
        replace(recovery, **own(Recovery)),
        replace(output, **own(Output)),
    )


def check_task(recovery: Recovery, rule: Mapping[str, float] | None = None) -> None:
    """Refuse a metric or a loss that is not named as it must be, or is not used.

    Raises:
        PlanError: As said.
    """
    for name, given in (("metric", recovery.metric), ("loss", recovery.loss)):
        if isinstance(given, str) and not is_factory(given):
            raise PlanError(
                f"--{name} {given!r} is not of the form pkg.module:function", hint=f"Example: --{name} mytask:{name}"
            )
    if rule and "max_metric_drop" in rule and recovery.metric is None:
        raise PlanError("--max-metric-drop is given without a metric", hint="Add --metric pkg.module:function.")
    if recovery.loss is not None and not recovery.epochs:
        raise PlanError(
            "--loss is what fine-tuning minimises, and there is none", hint="Add --finetune with some epochs."
        )
    if recovery.loss is not None and recovery.recipe.distill:
        raise PlanError(
            "--loss and --distill are two ways to fine-tune", hint="Leave one out; a loss may hold a teacher itself."
        )


def check(removal: Removal, scoring: Scoring, recovery: Recovery, output: Output) -> None:
    """Refuse what cannot be, before any work is spent.

    What a criterion means is known of an instance, and of the name of one of our own; else it is taken to fit the rule.

    Raises:
        PlanError: Not exactly one rule, a value out of range, or options that do not go together.
    """
    criterion = criterion_for(scoring.criterion, removal)
    name, said = (criterion, declared(criterion)) if isinstance(criterion, str) else (criterion.name, criterion)
    rule = check_rule(name, said.higher or "remove", **{option: getattr(removal, option) for option in _RULES})
    check_allocation(removal.allocation, rule, said.comparable, name)
    if isinstance(criterion, str | CloudCriterion) and removal.max_betti is not None:
        check_samples(USUAL_SAMPLES if scoring.samples == AUTO else scoring.samples, removal.max_betti)
    check_task(recovery, rule)
    check_activation(recovery.activation, recovery.epochs)
    check_block_epochs(recovery.distill_blocks)
    check_iterations(removal.iterations, rule, recovery.epochs)
    check_quantize(output.quantize)
    check_opset(output.opset)
