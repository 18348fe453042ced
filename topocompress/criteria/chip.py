"""How far a filter's map can be had from the maps of the other filters."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from topocompress.criteria.base import MapCriterion, whole
from topocompress.types import Direction


class CHIP(MapCriterion):
    """Channel independence: nuclear norm that the layer's maps lose without the filter's (higher: keep).

    Sui, Yin, Xie, Phan, Zonouz & Yuan, "CHIP: CHannel Independence-based Pruning for Compact Neural Networks",
    NeurIPS 2021, arXiv:2110.13981. The maps of one sample are the rows of a (filters × h·w) matrix; the score is its
    nuclear norm less that of the matrix without the row, averaged over the samples.

    Costs one eigenvalue problem of min(filters, h·w) per sample and filter.

    Args:
        samples: Samples that are read at most.
    """

    name: ClassVar[str] = "chip"
    higher: Direction = "keep"

    def __init__(self, *, samples: int = 64) -> None:
        self.most_samples = whole("samples", samples, 1)

    def score(self, maps: Tensor) -> Tensor:
        """Nuclear norm lost with each row, (samples, filters)."""
        return torch.stack([_losses(rows) for rows in maps.flatten(2).double()])


def _losses(rows: Tensor) -> Tensor:
    """(filters,) what the nuclear norm of a (filters, features) matrix loses with each row."""
    filters, features = rows.shape
    if filters <= features:  # the eigenvalues of the smaller Gram matrix are the squared singular values
        gram = rows @ rows.T
        keep = 1 - torch.eye(filters, dtype=rows.dtype, device=rows.device)
        parts = (gram * row[:, None] * row for row in keep)
    else:
        gram = rows.T @ rows
        parts = (gram - torch.outer(row, row) for row in rows)
    return _nuclear(gram) - torch.stack([_nuclear(part) for part in parts])


def _nuclear(gram: Tensor) -> Tensor:
    values: Tensor = torch.linalg.eigvalsh(gram)
    return values.clamp_min(0).sqrt().sum()
