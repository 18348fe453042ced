"""Which samples fine-tuning trains on, which choose the best epoch, in what batches, and who takes which part."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from topocompress.errors import DataError
from topocompress.network.inference import batch_parts, sample_count
from topocompress.network.memory_layout import laid_out
from topocompress.network.task import collated, on_device

Samples = Dataset[Any]
"""A map-style dataset of (input (C, H, W), class label) pairs."""


def batch_indices(indices: Sequence[int], batch_size: int, *, shuffle: torch.Generator | None) -> list[list[int]]:
    """Cut into batches; a last batch of one joins its neighbour, because BatchNorm cannot train on a single sample."""
    order: list[int] = (
        list(range(len(indices))) if shuffle is None else torch.randperm(len(indices), generator=shuffle).tolist()
    )
    batches = [[indices[i] for i in order[start : start + batch_size]] for start in range(0, len(order), batch_size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2].extend(batches.pop())
    return batches


def grouped(batches: Sequence[list[int]], size: int) -> list[list[list[int]]]:
    """Batches by optimiser step, ``size`` of them in each but the last."""
    return [list(batches[start : start + size]) for start in range(0, len(batches), size)]


def shared_out(batch: Sequence[int], rank: int, processes: int) -> tuple[list[int], list[float]]:
    """One process's part of a batch, and the weight of each sample in it.

    A part of fewer than two samples, on which BatchNorm cannot train, is filled up with samples of weight 0.
    """
    size, larger = divmod(len(batch), processes)
    start = rank * size + min(rank, larger)
    part = list(batch[start : start + size + (rank < larger)])
    filler = list(batch[: 2 - len(part)]) if processes > 1 else []
    return part + filler, [1.0] * len(part) + [0.0] * len(filler)


def class_labels(samples: Samples) -> NDArray[np.int64]:
    """(samples,) class labels, read from the dataset's ``targets`` where it has them, else sample by sample."""
    check_map_style(samples)
    if isinstance(samples, Subset):
        return class_labels(samples.dataset)[np.asarray(samples.indices, dtype=np.intp)]
    found = getattr(samples, "targets", None)
    if found is None and isinstance(samples, TensorDataset) and len(samples.tensors) > 1:
        found = samples.tensors[1]
    if found is None:
        found = [batch_parts(samples[index])[1] for index in range(sample_count(samples))]
    if any(label is None for label in found):
        raise DataError("fine-tuning needs a class label for each sample; the dataset yields inputs only")
    labels = np.asarray(found)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"fine-tuning needs one integer class label per sample; got {labels.dtype} labels of shape {labels.shape}"
        )
    return labels.astype(np.int64)


def no_labels(samples: Samples) -> NDArray[np.int64]:
    """(samples,) zeros: every sample counts, and all alike."""
    check_map_style(samples)
    return np.zeros(sample_count(samples), dtype=np.int64)


def check_map_style(samples: Any) -> None:
    """Refuse what has no length and no numbers; DataError."""
    if not hasattr(samples, "__len__") or not hasattr(samples, "__getitem__"):
        raise DataError(f"fine-tuning needs a map-style dataset (len() and [i]), got {type(samples).__name__}")


def labelled_indices(labels: NDArray[np.int64]) -> list[int]:
    """Positions of the samples that have a label; DataError if none has."""
    indices: list[int] = np.flatnonzero(labels >= 0).tolist()
    if not indices:
        raise DataError("no validation sample has a label", hint="Leave out validation= to hold some samples out.")
    return indices


def split_indices(labels: NDArray[np.int64], seed: int, *, hold_out: bool) -> tuple[list[int], list[int]]:
    """Indices of the samples to train on, and of those that choose the best epoch."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.flatnonzero(labels >= 0))
    held: list[int] = []
    if hold_out:
        for label in np.unique(labels[order]):
            members = order[labels[order] == label]
            if len(members) > 1:
                held.extend(members[: max(1, round(len(members) / 10))].tolist())
        if not held:  # every class has one sample
            held = order[: math.ceil(len(order) / 10)].tolist()
    kept = np.setdiff1d(order, np.asarray(held, dtype=np.intp)).tolist()
    if len(kept) < 2:
        raise DataError(
            f"fine-tuning needs at least 2 labelled training samples after holding {len(held)} out; got {len(kept)}",
            hint="Give labelled data with --data, or leave out --finetune.",
        )
    return kept, sorted(held)


def loaded_batches(
    samples: Samples,
    batches: Sequence[list[int]],
    device: torch.device,
    change: Callable[[Tensor, list[int]], Tensor] | None = None,
    *,
    layout: torch.memory_format = torch.contiguous_format,
) -> Iterator[tuple[Tensor, Any]]:
    """Batches of the samples with these indices, on a device; labels are -1 where there are none.

    Args:
        samples: The samples.
        batches: Indices of each batch.
        device: Where they go.
        change: Called with each batch's inputs (B, C, H, W), still on the CPU, and indices.
        layout: How inputs lie in memory.
    """
    for indices, batch in zip(batches, DataLoader(samples, batch_sampler=batches, collate_fn=collated), strict=True):
        inputs, labels = batch_parts(batch)
        if labels is None:
            labels = torch.full((len(inputs),), -1)
        if change is not None:
            inputs = change(inputs, indices)
        if isinstance(labels, Tensor) and not labels.is_floating_point():
            labels = labels.long()
        yield laid_out(inputs.to(device), layout), on_device(labels, device)
