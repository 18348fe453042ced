"""BatchNorm statistics: re-estimated after surgery, and kept or averaged while training."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from topocompress.errors import DataError, ModelError
from topocompress.inference import batch_parts, evaluating, run_forward


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
    if not any(True for _ in with_statistics(tuned)):
        return tuned
    used = 0
    with evaluating(tuned) as device, estimating(tuned):
        for batch in batches:
            inputs, _ = batch_parts(batch)
            if len(inputs) > 1:
                run_forward(tuned, inputs.to(device))
                used += 1
        if not used:
            raise DataError(
                "BatchNorm statistics need a batch of at least 2 samples", hint="Give more calibration samples."
            )
    return tuned


@contextlib.contextmanager
def estimating(model: nn.Module) -> Iterator[None]:
    """Batches that run in this block set every BatchNorm's running statistics, as their plain average.

    BatchNorm trains in it, whatever the mode of the model is; the caller restores the mode.

    Args:
        model: Changed in place.

    Raises:
        ModelError: The new statistics are not finite.
    """
    norms = {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm) and m.running_mean is not None}
    momenta = {name: norm.momentum for name, norm in norms.items()}
    for norm in norms.values():
        norm.reset_running_stats()
        norm.momentum = None  # torch's spelling of a cumulative average
        norm.train()
    yield
    for name, norm in norms.items():
        norm.momentum = momenta[name]
        for statistic in (norm.running_mean, norm.running_var):
            if statistic is not None and not torch.isfinite(statistic).all():
                raise ModelError(
                    f"{name}: its re-estimated BatchNorm statistics hold NaN or infinity",
                    hint="Check the weights and the calibration samples for NaN.",
                )


def with_statistics(model: nn.Module) -> Iterator[_BatchNorm]:
    """The BatchNorm layers that keep running statistics."""
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None:
            yield module
