"""Attention layers whose heads can be told apart, listened to and removed.

The layers of torch and torchvision read their projections' weights without calling them, so no hook sees what a head
computes, and they derive the width of a head from the width of their input, so no head can go. Those here compute the
same (float32 outputs agree to about 1e-6 of the largest) from modules that are called, with a width of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.maxvit import RelativePositionalMultiHeadAttention
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2

from topocompress.dependencies.heads import HeadAttention, keep_outputs, kept_part
from topocompress.errors import ModelError


class MultiheadSelfAttention(HeadAttention):
    """What ``nn.MultiheadAttention`` computes for self-attention; called in the same way."""

    in_proj_bias = None  # tells nn.TransformerEncoderLayer not to compute past this module

    def __init__(self, original: nn.MultiheadAttention) -> None:
        weight, bias = original.in_proj_weight, original.in_proj_bias
        super().__init__(
            _linear(weight, bias, training=original.training),
            _linear(original.out_proj.weight, original.out_proj.bias, training=original.training),
            original.head_dim,
        )
        self.batch_first = original.batch_first
        self.dropout = original.dropout

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attention as ``nn.MultiheadAttention.forward`` describes it, and its weights if needed.

        Raises:
            ModelError: Queries, keys and values are not one tensor, or the mask differs between heads or is lacking.
        """
        if query is not key or key is not value:
            raise ModelError(
                "an nn.MultiheadAttention is called with different queries, keys and values",
                hint="Only the heads of self-attention can be removed.",
            )
        if is_causal and attn_mask is None:
            raise ModelError("an nn.MultiheadAttention is called with is_causal=True and without attn_mask")
        batched = query.dim() == 3
        x = query if batched else query.unsqueeze(0)
        swapped = batched and not self.batch_first
        queries, keys, values = self._by_head(self.qkv(x.transpose(0, 1) if swapped else x))
        mask = _added(attn_mask, key_padding_mask, x.dtype)
        scale = self.head_dim**-0.5
        weights = None
        if need_weights:
            logits = queries * scale @ keys.transpose(-2, -1)
            logits = logits if mask is None else logits + mask
            weights = F.dropout(F.softmax(logits, dim=-1), self.dropout, self.training)
            mixed = weights @ values
            weights = weights.mean(dim=1) if average_attn_weights else weights
            weights = weights if batched else weights.squeeze(0)
        else:
            rate = self.dropout if self.training else 0.0
            mixed = F.scaled_dot_product_attention(queries, keys, values, mask, rate, scale=scale)
        x = self.proj(mixed.transpose(1, 2).flatten(2))
        x = x.transpose(0, 1) if swapped else x
        return x if batched else x.squeeze(0), weights


class WindowAttention(HeadAttention):
    """What torchvision's ``ShiftedWindowAttention`` (Swin) computes for maps (batch, height, width, c).

    The projections are called on whole maps, not on windows, so that hooks see one entry per image.
    """

    relative_position_index: Tensor

    def __init__(self, original: ShiftedWindowAttention) -> None:
        super().__init__(original.qkv, original.proj, original.qkv.in_features // original.num_heads)
        self.scale: float = self.head_dim**-0.5
        self.window_size = list(original.window_size)
        self.shift_size = list(original.shift_size)
        self.attention_dropout = original.attention_dropout
        self.dropout = original.dropout
        self.register_buffer("relative_position_index", original.relative_position_index)
        self._take_positions(original)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, height, width, c) → the same."""
        batch, height, width, _ = x.shape
        high, wide = self.window_size
        x = F.pad(x, (0, 0, 0, -width % wide, 0, -height % high))
        down, across = x.shape[1] // high, x.shape[2] // wide
        shift = [0 if count == 1 else size for count, size in zip((down, across), self.shift_size, strict=True)]
        if any(shift):
            x = torch.roll(x, shifts=(-shift[0], -shift[1]), dims=(1, 2))
        # One reordering from maps to (3, batch, windows, heads, tokens, d), and one back.
        parts = self.qkv(x).reshape(batch, down, high, across, wide, 3, self.num_heads, self.head_dim)
        parts = parts.permute(5, 0, 1, 3, 6, 2, 4, 7)
        queries, keys, values = parts.reshape(3, batch, down * across, self.num_heads, high * wide, -1).unbind(0)
        logits = self._likeness(queries, keys) + self._position_bias()
        if any(shift):
            logits = logits + _between_regions(x, self.window_size, shift)
        weights = F.dropout(F.softmax(logits, dim=-1), self.attention_dropout, self.training)
        mixed = (weights @ values).view(batch, down, across, self.num_heads, high, wide, self.head_dim)
        x = mixed.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, down * high, across * wide, -1)
        if any(shift):
            x = torch.roll(x, shifts=(shift[0], shift[1]), dims=(1, 2))
        return F.dropout(self.proj(x[:, :height, :width]), self.dropout, self.training)

    def _take_positions(self, original: ShiftedWindowAttention) -> None:
        self.relative_position_bias_table = original.relative_position_bias_table

    def _keep_positions(self, kept: list[int]) -> None:
        self.relative_position_bias_table = kept_part(self.relative_position_bias_table, kept, 1)

    def _position_bias(self) -> Tensor:
        """(h, tokens, tokens)."""
        return _looked_up(self.relative_position_bias_table, self.relative_position_index)

    def _likeness(self, queries: Tensor, keys: Tensor) -> Tensor:
        return queries * self.scale @ keys.transpose(-2, -1)


class CosineWindowAttention(WindowAttention):
    """What torchvision's ``ShiftedWindowAttentionV2`` (Swin V2) computes for maps (batch, height, width, c)."""

    relative_coords_table: Tensor

    def _take_positions(self, original: ShiftedWindowAttentionV2) -> None:
        self.qkv = _linear(original.qkv.weight, original.qkv.bias, training=original.training, kind=_KeysWithoutBias)
        self.logit_scale = original.logit_scale
        self.cpb_mlp = original.cpb_mlp
        self.register_buffer("relative_coords_table", original.relative_coords_table)

    def _keep_positions(self, kept: list[int]) -> None:
        self.logit_scale = kept_part(self.logit_scale, kept, 0)
        keep_outputs(self.cpb_mlp[-1], kept)

    def _position_bias(self) -> Tensor:
        table = self.cpb_mlp(self.relative_coords_table).flatten(0, -2)
        return 16 * torch.sigmoid(_looked_up(table, self.relative_position_index))

    def _likeness(self, queries: Tensor, keys: Tensor) -> Tensor:
        cosines = F.normalize(queries, dim=-1) @ F.normalize(keys, dim=-1).transpose(-2, -1)
        return cosines * torch.clamp(self.logit_scale, max=math.log(100.0)).exp()


class PartitionAttention(HeadAttention):
    """What torchvision's ``RelativePositionalMultiHeadAttention`` (MaxViT) computes for (batch, groups, tokens, c)."""

    relative_position_index: Tensor

    def __init__(self, original: RelativePositionalMultiHeadAttention) -> None:
        super().__init__(original.to_qkv, original.merge, original.head_dim)
        self.scale = original.scale_factor  # of the width before any head went
        self.relative_position_bias_table = original.relative_position_bias_table
        self.register_buffer("relative_position_index", original.relative_position_index)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, groups, tokens, c) → the same."""
        queries, keys, values = self._by_head(self.qkv(x))
        bias = _looked_up(self.relative_position_bias_table, self.relative_position_index)
        weights = F.softmax(queries @ (keys * self.scale).transpose(-2, -1) + bias, dim=-1)
        mixed: Tensor = self.proj((weights @ values).transpose(-3, -2).flatten(-2))
        return mixed

    def _keep_positions(self, kept: list[int]) -> None:
        self.relative_position_bias_table = kept_part(self.relative_position_bias_table, kept, 1)


class _KeysWithoutBias(nn.Linear):
    """Queries, keys and values, where the bias of the keys counts as 0 whatever is stored, and is not trained."""

    def forward(self, x: Tensor) -> Tensor:
        bias: Tensor | None = self.bias
        if bias is not None:
            queries, keys, values = bias.chunk(3)
            bias = torch.cat([queries, torch.zeros_like(keys), values])
        return F.linear(x, self.weight, bias)


_EXPLICIT: dict[type[nn.Module], Callable[[Any], HeadAttention]] = {
    nn.MultiheadAttention: MultiheadSelfAttention,
    ShiftedWindowAttention: WindowAttention,
    ShiftedWindowAttentionV2: CosineWindowAttention,
    RelativePositionalMultiHeadAttention: PartitionAttention,
}

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def make_explicit(model: nn.Module) -> None:
    """Replace, in place, the attention layers inside a model by ones that compute the same and have heads.

    Parameters, buffers, names and modes stay, though a layer's parameters get other names: ``qkv`` and ``proj``. What
    differs from torch's and torchvision's own classes, has a bias or zeros for extra keys, or has hooks, stays as it
    is. Again on the same model, it changes nothing.
    """
    replaced: dict[nn.Module, HeadAttention] = {}
    for parent in list(model.modules()):
        for name, child in parent._modules.items():  # named_children() leaves out a module that is there twice
            if child is not None and _supported(child):
                if child not in replaced:
                    replaced[child] = _EXPLICIT[type(child)](child)
                    replaced[child].training = child.training
                parent._modules[name] = replaced[child]


def has_implicit(model: nn.Module) -> bool:
    """Whether :func:`make_explicit` would find anything to replace inside a model."""
    return any(_supported(module) for module in model.modules() if module is not model)


def _supported(module: nn.Module) -> bool:
    if type(module) not in _EXPLICIT or any(getattr(module, hooks) for hooks in _HOOKS):
        return False
    if isinstance(module, nn.MultiheadAttention):
        return module._qkv_same_embed_dim and module.bias_k is None and not module.add_zero_attn
    return True


def _linear(weight: Any, bias: Any, *, training: bool, kind: type[nn.Linear] = nn.Linear) -> nn.Linear:
    """A linear layer of these very parameters; ``bias`` may be ``None``."""
    linear = kind(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")  # draws no random numbers
    linear.weight, linear.bias, linear.training = weight, bias, training
    return linear


def _looked_up(table: Tensor, index: Tensor) -> Tensor:
    """A table (relative positions, h) at the index of each pair of tokens: (h, tokens, tokens)."""
    tokens = math.isqrt(index.numel())
    return table[index.flatten()].view(tokens, tokens, -1).permute(2, 0, 1)


def _between_regions(x: Tensor, window: Sequence[int], shift: Sequence[int]) -> Tensor:
    """-100 between tokens of a shifted map that were no neighbours before the shift: (windows, 1, tokens, tokens)."""
    (high, wide), (height, width) = window, x.shape[1:3]
    regions = 3 * _regions(height, high, shift[0], x.device)[:, None] + _regions(width, wide, shift[1], x.device)
    regions = regions.view(height // high, high, width // wide, wide).permute(0, 2, 1, 3).reshape(-1, 1, high * wide)
    apart = regions.transpose(-2, -1) != regions
    return torch.zeros_like(apart, dtype=x.dtype).masked_fill(apart, -100.0).unsqueeze(1)


def _regions(size: int, window: int, shift: int, device: torch.device) -> Tensor:
    """Along one axis: 0, then 1 in the last window, 2 where the shift brought the other end there; 0 if unshifted."""
    places = torch.arange(size, device=device)
    return (places >= size - window * (shift > 0)).long() + (places >= size - shift)


def _added(attention: Tensor | None, padding: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """The two masks of ``nn.MultiheadAttention`` as one, to be added to logits (batch, h, tokens, tokens)."""
    if attention is not None and attention.dim() != 2:
        raise ModelError(
            "an nn.MultiheadAttention is called with a mask per head",
            hint="Heads can be removed only where one mask (tokens, tokens) serves them all.",
        )
    if padding is not None:
        padding = padding.reshape(-1, 1, 1, padding.shape[-1])
    masks = [
        torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -math.inf) if mask.dtype == torch.bool else mask.to(dtype)
        for mask in (attention, padding)
        if mask is not None
    ]
    return sum(masks[1:], masks[0]) if masks else None
