"""Attention layers that are made of heads: which channels are a head's, and how a head is removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from topocompress.errors import SurgeryError


@dataclass(frozen=True, kw_only=True)
class HeadChannels:
    """What belongs to one head.

    Attributes:
        rows: Output channels of ``qkv``: ``head_dim`` queries, as many keys, as many values; ascending.
        columns: The ``head_dim`` inputs of ``proj`` that read the head.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]


class HeadAttention(nn.Module):
    """Self-attention of h heads, each d wide, for inputs of c channels.

    ``qkv`` and ``proj`` are called once per forward pass on tensors that are (batch, ..., channels).

    Attributes:
        qkv: Linear, c → 3·h·d: the queries of all heads, then the keys, then the values.
        proj: Linear, h·d → c.
        head_dim: d. It stays when heads go, as do all scales that were derived from the number of heads.
    """

    def __init__(self, qkv: nn.Linear, proj: nn.Linear, head_dim: int) -> None:
        super().__init__()
        self.qkv = qkv
        self.proj = proj
        self.head_dim = head_dim

    @property
    def num_heads(self) -> int:
        """h, the number of heads that are left."""
        return self.proj.in_features // self.head_dim

    def head_channels(self, head: int) -> HeadChannels:
        """The channels of one head, counted from 0 among those that are left."""
        columns = range(head * self.head_dim, (head + 1) * self.head_dim)
        return HeadChannels(
            rows=tuple(part * self.proj.in_features + column for part in range(3) for column in columns),
            columns=tuple(columns),
        )

    def remove_heads(self, heads: Sequence[int]) -> None:
        """Remove heads in place: the layer then computes what it did when ``proj`` did not read them.

        Args:
            heads: Which, counted from 0 among those that are left; the others keep their order.

        Raises:
            SurgeryError: There is no such head, or none would be left.
        """
        if unknown := set(heads) - set(range(self.num_heads)):
            raise SurgeryError(f"an attention layer has heads 0 to {self.num_heads - 1}, not {sorted(unknown)}")
        kept = [head for head in range(self.num_heads) if head not in set(heads)]
        if not kept:
            raise SurgeryError("all heads of an attention layer would be removed", hint="At least one must stay.")
        channels = [self.head_channels(head) for head in kept]
        keep_outputs(self.qkv, sorted(row for each in channels for row in each.rows))
        keep_inputs(self.proj, [column for each in channels for column in each.columns])
        self._keep_positions(kept)

    def _keep_positions(self, kept: list[int]) -> None:
        """Drop what else belongs to heads that are not ``kept``."""

    def _by_head(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(..., tokens, 3·h·d) → queries, keys and values, each (..., h, tokens, d)."""
        parts = qkv.view(*qkv.shape[:-1], 3, self.num_heads, self.head_dim).transpose(-4, -2)
        queries, keys, values = parts.unbind(-3)
        return queries, keys, values


def attention_heads(model: nn.Module) -> dict[str, HeadAttention]:
    """Name → layer, for every attention layer with heads, in the order of the model's modules."""
    return {name: module for name, module in model.named_modules() if isinstance(module, HeadAttention)}


def kept_part(parameter: Tensor, index: Sequence[int], dim: int) -> nn.Parameter:
    """The entries ``index`` along ``dim``, as a parameter that is trained if the whole one was."""
    chosen = torch.tensor(index, device=parameter.device)
    return nn.Parameter(parameter.detach().index_select(dim, chosen), requires_grad=parameter.requires_grad)


def keep_outputs(linear: nn.Linear, rows: Sequence[int]) -> None:
    """Remove, in place, all outputs of a linear layer but ``rows``."""
    linear.weight = kept_part(linear.weight, rows, 0)
    if linear.bias is not None:
        linear.bias = kept_part(linear.bias, rows, 0)
    linear.out_features = len(rows)


def keep_inputs(linear: nn.Linear, columns: Sequence[int]) -> None:
    """Remove, in place, all inputs of a linear layer but ``columns``."""
    linear.weight = kept_part(linear.weight, columns, 1)
    linear.in_features = len(columns)
