"""Which samples fine-tuning trains on, which choose the best epoch, and in what batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from topocompress.errors import DataError
from topocompress.inference import batch_parts, device_of

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


def class_labels(samples: Samples) -> NDArray[np.int64]:
    """(samples,) class labels, read from the dataset's ``targets`` where it has them, else sample by sample."""
    if not hasattr(samples, "__len__") or not hasattr(samples, "__getitem__"):
        raise DataError(f"fine-tuning needs a map-style dataset (len() and [i]), got {type(samples).__name__}")
    if isinstance(samples, Subset):
        return class_labels(samples.dataset)[np.asarray(samples.indices, dtype=np.intp)]
    found = getattr(samples, "targets", None)
    if found is None and isinstance(samples, TensorDataset) and len(samples.tensors) > 1:
        found = samples.tensors[1]
    if found is None:
        found = [batch_parts(samples[index])[1] for index in range(len(samples))]
    if any(label is None for label in found):
        raise DataError("fine-tuning needs a class label for each sample; the dataset yields inputs only")
    labels = np.asarray(found)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"fine-tuning needs one integer class label per sample; got {labels.dtype} labels of shape {labels.shape}"
        )
    return labels.astype(np.int64)


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


def loaded_batches(model: nn.Module, samples: Samples, batches: Sequence[list[int]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of the samples with these indices, on the model's device."""
    device = device_of(model)
    for inputs, labels in DataLoader(samples, batch_sampler=batches):
        yield inputs.to(device), labels.to(device=device, dtype=torch.int64)
