"""How a network is fine-tuned: the settings, checked, and what follows from them alone. No torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from topocompress.errors import DataError
from topocompress.runtime.arguments import check_fields

Schedule = Literal["cosine", "one-cycle"]
Precision = Literal["no", "bf16", "fp16"]

_START, _END, _RISE = 25.0, 1e4, 0.3  # of one-cycle


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of fine-tuning.

    Attributes:
        epochs: Passes over the training samples; 0 trains nothing.
        lr: Peak learning rate.
        schedule: How the learning rate runs, one step at a time, see :meth:`rates`.
        batch_size: Samples of one forward pass, those of all processes together; at least 2.
        accumulate: Forward passes whose gradients are added up before the weights move, so that a step sees
            ``batch_size`` · ``accumulate`` samples.
        momentum: Nesterov momentum, 0 < momentum < 1.
        weight_decay: L2 penalty on weights with two axes or more; biases and norms are spared.
        label_smoothing: Share in 0..1 of the target that is spread over all classes.
        distill: Weight in 0..1 of learning from the unpruned network's outputs; the rest is the labels'. 1 needs no
            labels, 0 learns from labels alone.
        temperature: By which both networks' logits are divided in distillation, above 0; higher softens the targets.
        patience: Stop after as many epochs without a better one; ``None`` runs all of them.
        precision: ``no`` computes in float32; ``bf16`` and, on a GPU, ``fp16`` do most of it in 16 bits. Weights,
            losses and validation stay in float32.
        augment: Whether training images are shifted by up to an eighth of each side and, where that is natural,
            mirrored. ``None`` does what the samples say suits them; ``True`` also shifts and mirrors samples that say
            nothing.

    Raises:
        OptionError: A setting is of another type.
        DataError: Settings out of range; the message names all of them.
    """

    epochs: int
    lr: float = 0.01
    schedule: Schedule = "cosine"
    batch_size: int = 128
    accumulate: int = 1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    distill: float = 0.0
    temperature: float = 2.0
    patience: int | None = None
    precision: Precision = "no"
    augment: bool | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        wrong = [text for right, text in self._rules() if not right]
        if wrong:
            raise DataError("fine-tuning: " + "; ".join(wrong))

    def _rules(self) -> list[tuple[bool, str]]:
        return [
            (self.epochs >= 0, f"epochs must be 0 or more, got {self.epochs}"),
            (_above_zero(self.lr), f"the learning rate must be a number above 0, got {self.lr}"),
            (self.schedule in get_args(Schedule), f"the schedule must be cosine or one-cycle, got {self.schedule!r}"),
            (self.batch_size >= 2, f"the batch size must be 2 or more, got {self.batch_size}"),
            (self.accumulate >= 1, f"batches to accumulate must be 1 or more, got {self.accumulate}"),
            (0 < self.momentum < 1, f"momentum must lie between 0 and 1, got {self.momentum}"),
            (0 <= self.weight_decay < math.inf, f"weight decay must be 0 or more, got {self.weight_decay}"),
            (0 <= self.label_smoothing <= 1, f"label smoothing must lie in 0..1, got {self.label_smoothing}"),
            (0 <= self.distill <= 1, f"the weight of distillation must lie in 0..1, got {self.distill}"),
            (_above_zero(self.temperature), f"the temperature must be a number above 0, got {self.temperature}"),
            (self.patience is None or self.patience >= 1, f"patience must be 1 or more, got {self.patience}"),
            (self.precision in get_args(Precision), f"precision must be no, bf16 or fp16, got {self.precision!r}"),
        ]

    @property
    def label_free(self) -> bool:
        """Whether labels play no part."""
        return self.distill == 1

    def settings(self) -> dict[str, Any]:
        """All settings as plain data."""
        return asdict(self)

    def rates(self, total: int, steps_per_epoch: int) -> list[tuple[float, float]]:
        """Learning rate and momentum of each step.

        ``cosine`` rises linearly over the first 5 % of the steps (one epoch at most) and falls as a half cosine that
        would reach zero one step after the last; momentum is constant. ``one-cycle`` (Smith & Topin 2019,
        arXiv 1708.07120) rises from a 25th of the peak over the first 30 % of the steps and falls to a 250,000th of
        it, both as half cosines, while momentum falls and rises again, by half of what it lacks to 1 (0.95 to 0.85
        for 0.9).

        Args:
            total: Number of steps.
            steps_per_epoch: Number of steps of one epoch.
        """
        if self.schedule == "one-cycle":
            return self._one_cycle(total)
        warmup = max(1, min(steps_per_epoch, total // 20))
        rise = [self.lr * (step + 1) / warmup for step in range(min(warmup, total))]
        fall = total - len(rise)
        rates = rise + [self.lr * 0.5 * (1 + math.cos(math.pi * (step + 1) / (fall + 1))) for step in range(fall)]
        return [(rate, self.momentum) for rate in rates]

    def _one_cycle(self, total: int) -> list[tuple[float, float]]:
        spread = (1 - self.momentum) / 2
        high, low = self.momentum + spread, max(0.0, self.momentum - spread)
        first, last = self.lr / _START, self.lr / _START / _END
        top = max(0.0, _RISE * total - 1)
        found = []
        for step in range(total):
            if step <= top:
                share = step / top if top else 1.0
                found.append((_between(first, self.lr, share), _between(high, low, share)))
            else:
                share = (step - top) / (total - 1 - top)
                found.append((_between(self.lr, last, share), _between(low, high, share)))
        return found


def _between(start: float, end: float, share: float) -> float:
    """From start to end along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def _above_zero(value: float) -> bool:
    return math.isfinite(value) and value > 0


def no_teacher(why: str = "") -> DataError:
    """The error where there is nothing to learn from; ``why`` goes on with its sentence."""
    return DataError(
        f"--finetune needs labelled images{why}",
        hint="Give --data with labels, or add --distill, which learns from the unpruned network and needs none.",
    )
