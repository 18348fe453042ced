"""Training after surgery: BatchNorm statistics re-estimated, then plain SGD."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from topocompress.errors import DataError, ModelError, TrainingError
from topocompress.inference import batch_parts, evaluating, main_output, preserved, run_forward
from topocompress.training_set import (
    Samples,
    batch_indices,
    class_labels,
    labelled_indices,
    loaded_batches,
    split_indices,
)

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch of fine-tuning.

    Attributes:
        epoch: Number of the epoch; 0 is the model before tuning.
        loss: Mean training loss over the epoch; ``None`` for epoch 0.
        validation_loss: Mean cross-entropy on the validation samples after the epoch.
        accuracy: Top-1 accuracy in 0..1 on the validation samples after the epoch.
        lr: Highest learning rate of the epoch's steps; 0 for epoch 0.
        seconds: Wall time, validation included.
    """

    epoch: int
    loss: float | None
    validation_loss: float
    accuracy: float
    lr: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class FinetuneResult:
    """What fine-tuning made of the model.

    Attributes:
        model: A copy of the given model with the weights of the best epoch.
        history: One entry per epoch, epoch 0 included.
        best_epoch: The epoch whose weights were kept.
        validation_samples: How many samples chose it.
    """

    model: nn.Module
    history: tuple[Epoch, ...]
    best_epoch: int
    validation_samples: int


def recalibrate_batchnorm(model: nn.Module, batches: Iterable[Any]) -> nn.Module:
    """Estimate the running statistics of every BatchNorm anew, as the plain average over the batches.

    Only BatchNorm trains: dropout and stochastic depth stay off. Batches of one sample, without variance, are skipped.

    Args:
        model: The network; not changed.
        batches: Inputs (B, C, H, W), or (inputs, labels) pairs; every batch weighs the same.

    Returns:
        A copy with new statistics; an unchanged copy where the model has no BatchNorm that keeps any.

    Raises:
        DataError: No batch holds two samples or more.
        ModelError: The model does not accept the inputs, or the new statistics are not finite.
    """
    tuned = copy.deepcopy(model)
    norms = {name: m for name, m in tuned.named_modules() if isinstance(m, _BatchNorm) and m.running_mean is not None}
    if not norms:
        return tuned
    used, momenta = 0, {name: norm.momentum for name, norm in norms.items()}
    with evaluating(tuned) as device:
        for norm in norms.values():
            norm.reset_running_stats()
            norm.momentum = None  # torch's spelling of a cumulative average
            norm.train()
        for batch in batches:
            inputs, _ = batch_parts(batch)
            if len(inputs) > 1:
                run_forward(tuned, inputs.to(device))
                used += 1
    if not used:
        raise DataError(
            "BatchNorm statistics need a batch of at least 2 samples", hint="Give more calibration samples."
        )
    for name, norm in norms.items():
        norm.momentum = momenta[name]
        for statistic in (norm.running_mean, norm.running_var):
            if statistic is not None and not torch.isfinite(statistic).all():
                raise ModelError(
                    f"{name}: its re-estimated BatchNorm statistics hold NaN or infinity",
                    hint="Check the weights and the calibration samples for NaN.",
                )
    return tuned


def finetune(
    model: nn.Module,
    training: Samples,
    *,
    epochs: int,
    validation: Samples | None = None,
    lr: float = 0.01,
    batch_size: int = 128,
    weight_decay: float = 5e-4,
    momentum: float = 0.9,
    label_smoothing: float = 0.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> FinetuneResult:
    """Train a copy of the model and keep the weights of its best epoch.

    SGD with Nesterov momentum; the learning rate rises linearly over the first 5 % of the steps (one epoch at most)
    and falls to zero as a cosine. Weight decay spares biases and norms.

    The best epoch is the one with the highest validation accuracy, then the lowest validation loss. Epoch 0, before
    tuning, takes part, so the choice is never worse than the given model *on those samples*. Choosing on the samples
    that are reported later would flatter the report: pass neither them nor anything that shares samples with them.
    Without ``validation``, a seeded tenth of the training samples (at least one per class that has two) is held out
    of training for it.

    Args:
        model: The network; not changed. Its device is used.
        training: Map-style dataset of (input (C, H, W), class label ≥ 0); samples with a label < 0 are left out.
        epochs: Passes over the training samples; 0 returns a copy.
        validation: Samples that choose the best epoch, of the same form.
        lr: Peak learning rate.
        batch_size: Samples per step, at least 2. A last batch of one sample joins the one before.
        weight_decay: L2 penalty on weights with two axes or more.
        momentum: Momentum, > 0.
        label_smoothing: Share in 0..1 of the target spread over all classes.
        seed: Decides hold-out, order and everything random in model and dataset (as far as it draws from torch).
        progress: Called after each step with (steps done, steps in all, message).

    Raises:
        DataError: Fewer than 3 labelled samples, dense labels, labels beyond the model's classes, or a setting out of
            range.
        ModelError: The model does not accept the samples, or none of its parameters requires gradients.
        TrainingError: The loss became NaN or infinite.
    """
    _check_settings(epochs=epochs, lr=lr, batch_size=batch_size, momentum=momentum)
    tuned = copy.deepcopy(model)
    train_indices, held_out = split_indices(class_labels(training), seed, hold_out=validation is None)
    chooser = (training, held_out) if validation is None else (validation, labelled_indices(class_labels(validation)))
    with preserved(tuned):
        torch.manual_seed(seed)
        shuffle = torch.Generator().manual_seed(seed)
        history = [_epoch(0, tuned, chooser, batch_size, started=time.perf_counter(), loss=None, lr=0.0)]
        best, best_state = history[0], copy.deepcopy(tuned.state_dict())
        optimiser = _optimiser(tuned, lr=lr, momentum=momentum, weight_decay=weight_decay)
        steps = len(batch_indices(train_indices, batch_size, shuffle=None))
        rates = _schedule(lr, epochs * steps, steps)
        for epoch in range(1, epochs + 1):
            started = time.perf_counter()
            batches = batch_indices(train_indices, batch_size, shuffle=shuffle)
            report = None if progress is None else _reporter(progress, epoch, epochs, steps)
            settings = rates[(epoch - 1) * steps : epoch * steps]
            loss = _train(tuned, training, batches, optimiser, settings, label_smoothing, epoch, report)
            latest = _epoch(epoch, tuned, chooser, batch_size, started=started, loss=loss, lr=max(settings))
            history.append(latest)
            if (latest.accuracy, -latest.validation_loss) > (best.accuracy, -best.validation_loss):
                best, best_state = latest, copy.deepcopy(tuned.state_dict())
        tuned.load_state_dict(best_state)
    tuned.zero_grad(set_to_none=True)
    return FinetuneResult(
        model=tuned, history=tuple(history), best_epoch=best.epoch, validation_samples=len(chooser[1])
    )


def _train(
    model: nn.Module,
    samples: Samples,
    batches: Sequence[list[int]],
    optimiser: torch.optim.Optimizer,
    rates: Sequence[float],
    label_smoothing: float,
    epoch: int,
    report: Callable[[int, float], None] | None,
) -> float:
    """One epoch; returns the mean loss per sample."""
    model.train()
    total, seen = 0.0, 0
    for step, (inputs, labels) in enumerate(loaded_batches(model, samples, batches)):
        for group in optimiser.param_groups:
            group["lr"] = rates[step]
        optimiser.zero_grad(set_to_none=True)
        loss = F.cross_entropy(_logits(model, inputs, labels), labels, label_smoothing=label_smoothing)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the training loss became {loss.item()} in epoch {epoch}, step {step + 1} of {len(batches)}",
                hint=f"Lower --lr, for example to {max(rates) / 10:g}.",
            )
        torch.autograd.backward(loss)
        optimiser.step()
        total += loss.item() * len(inputs)
        seen += len(inputs)
        if report is not None:
            report(step, total / seen)
    return total / seen


def _epoch(
    number: int,
    model: nn.Module,
    chooser: tuple[Samples, list[int]],
    batch_size: int,
    *,
    started: float,
    loss: float | None,
    lr: float,
) -> Epoch:
    """Measure the model on the samples that choose the best epoch."""
    samples, indices = chooser
    correct, total = 0, 0.0
    with evaluating(model):
        for inputs, labels in loaded_batches(model, samples, batch_indices(indices, batch_size, shuffle=None)):
            logits = _logits(model, inputs, labels)
            correct += int((logits.argmax(1) == labels).sum())
            total += F.cross_entropy(logits, labels, reduction="sum").item()
    return Epoch(
        epoch=number,
        loss=loss,
        validation_loss=total / len(indices),
        accuracy=correct / len(indices),
        lr=lr,
        seconds=time.perf_counter() - started,
    )


def _logits(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    logits = main_output(run_forward(model, inputs))
    if logits.ndim != 2:
        raise DataError(
            f"fine-tuning needs a classifier's (samples, classes) output; the model returns {tuple(logits.shape)}"
        )
    if int(labels.max()) >= logits.shape[1]:
        raise DataError(
            f"label {int(labels.max())} among the samples, but the model has {logits.shape[1]} classes",
            hint="Labels must be the class indices that the model was trained with, counted from 0.",
        )
    return logits


def _optimiser(model: nn.Module, *, lr: float, momentum: float, weight_decay: float) -> torch.optim.SGD:
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise ModelError("fine-tuning needs a parameter that requires gradients; the model has none")
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=True)


def _schedule(peak: float, total: int, steps_per_epoch: int) -> list[float]:
    """Learning rate of each step: linear warm-up, then a cosine that would reach zero one step after the last."""
    warmup = max(1, min(steps_per_epoch, total // 20))
    rise = [peak * (step + 1) / warmup for step in range(min(warmup, total))]
    fall = total - len(rise)
    return rise + [peak * 0.5 * (1 + math.cos(math.pi * (step + 1) / (fall + 1))) for step in range(fall)]


def _reporter(progress: Progress, epoch: int, epochs: int, steps: int) -> Callable[[int, float], None]:
    def report(step: int, loss: float) -> None:
        progress((epoch - 1) * steps + step + 1, epochs * steps, f"epoch {epoch}/{epochs}, loss {loss:.3f}")

    return report


def _check_settings(*, epochs: int, lr: float, batch_size: int, momentum: float) -> None:
    wrong = []
    if epochs < 0:
        wrong.append(f"epochs must be 0 or more, got {epochs}")
    if not (math.isfinite(lr) and lr > 0):
        wrong.append(f"the learning rate must be a number above 0, got {lr}")
    if batch_size < 2:
        wrong.append(f"the batch size must be 2 or more, got {batch_size}")
    if not 0 < momentum < 1:
        wrong.append(f"momentum must lie between 0 and 1, got {momentum}")
    if wrong:
        raise DataError("fine-tuning: " + "; ".join(wrong))
