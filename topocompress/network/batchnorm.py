"""BatchNorm statistics: re-estimated after surgery, and kept or averaged while training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from topocompress.errors import DataError, ModelError
from topocompress.network.copying import copied
from topocompress.network.inference import batch_parts, evaluating, run_forward


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
    tuned = copied(model)
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
    norms = named_statistics(model)
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


def match_moments(
    model: nn.Module, original: nn.Module, kept: Mapping[str, Tensor], batches: Iterable[Any]
) -> nn.Module:
    """Set the running statistics such that each channel keeps the mean and the variance it had in the original.

    Both networks see the same samples, the original with the statistics it was trained with. What the samples have of
    their own, few of them or unlike the training images, is in both and drops out: only what removal has changed is
    corrected. From input to output, so each norm sees what those before it, corrected, give it. The method is ours.

    Args:
        model: A pruned network; not changed.
        original: What it was before; not changed.
        kept: BatchNorm of the pruned network → (channels,) which of the original's channels it has.
        batches: Inputs (B, C, H, W), or (inputs, labels) pairs; every batch weighs the same.

    Returns:
        A copy with new statistics. Norms that either network does not call, or not as often, keep theirs.

    Raises:
        ModelError: A network does not accept the inputs.
    """
    matched, reference = copied(model), copied(original)
    mine, theirs = named_statistics(matched), named_statistics(reference)
    pairs = {name: (mine[name], theirs[name]) for name in kept if name in mine and name in theirs}
    seen: dict[str, list[Tensor]] = {name: [] for name in pairs}  # of the original, in the batch at hand
    found: dict[str, list[Tensor]] = {name: [] for name in pairs}

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, inputs: seen[name].append(torch.stack(_moments(inputs[0]))[:, kept[name].to(inputs[0].device)])

    def correct(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if seen[name]:
                norm, whole = pairs[name]
                trained = torch.stack(_statistics(whole))[:, kept[name].to(inputs[0].device)]
                now = _matched(torch.stack(_moments(inputs[0])), seen[name].pop(0), trained, norm.eps)
                _set_statistics(norm, now)
                found[name].append(now)

        return hook

    with contextlib.ExitStack() as stack:
        for name, (pruned, whole) in pairs.items():
            stack.callback(whole.register_forward_pre_hook(note(name)).remove)
            stack.callback(pruned.register_forward_pre_hook(correct(name)).remove)
        device = stack.enter_context(evaluating(matched))
        stack.enter_context(evaluating(reference))
        for batch in batches:
            inputs, _ = batch_parts(batch)
            for moments in seen.values():
                moments.clear()
            run_forward(reference, inputs.to(device))
            run_forward(matched, inputs.to(device))
    for name, (norm, _) in pairs.items():
        if found[name]:
            _set_statistics(norm, torch.stack(found[name]).mean(0))
    return matched


def _moments(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """(channels,) mean and variance over samples and places."""
    flat = inputs.movedim(1, -1).reshape(-1, inputs.shape[1])  # faster than over several axes
    mean = flat.mean(0)
    return mean, (flat - mean).square_().mean(0)


_QUIET = 1e-3
"""A channel whose variance is this small beside its running one says little by it; its variance then stays."""


def _matched(now: Tensor, before: Tensor, trained: Tensor, eps: float) -> Tensor:
    """The statistics that normalise a channel of moments ``now`` as ``trained`` ones did one of moments ``before``.

    All are (2, channels): means and variances.
    """
    scale = trained[1] + eps
    ratio = (now[1] + _QUIET * scale) / (before[1] + _QUIET * scale)
    return torch.stack([now[0] - (before[0] - trained[0]) * ratio.sqrt(), (scale * ratio - eps).clamp_min(0)])


def _statistics(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    if norm.running_mean is None or norm.running_var is None:
        raise ModelError("a BatchNorm without running statistics")
    return norm.running_mean, norm.running_var


def _set_statistics(norm: _BatchNorm, found: Tensor) -> None:
    for mine, new in zip(_statistics(norm), found, strict=True):
        mine.copy_(new)


def named_statistics(model: nn.Module) -> dict[str, _BatchNorm]:
    """The BatchNorm layers that keep running statistics, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None
    }


def with_statistics(model: nn.Module) -> Iterator[_BatchNorm]:
    """The same, without names."""
    yield from named_statistics(model).values()
