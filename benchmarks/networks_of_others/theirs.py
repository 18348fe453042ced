"""Plain torch-pruning on a network, and whether what it leaves is right.

It is right where it computes what the original computes when nobody reads the channels that went. A LayerNorm is made
to leave them out too; where other means over channels are reached, the two differ by design: then it only "runs".
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from topocompress.deploy.measurement import count_macs
from topocompress.network.inference import all_outputs, first_line

_LAYERS = (nn.Linear, _ConvNd)
_TOLERANCE = 1e-3
_HEADS = ("num_heads", "num_attention_heads", "heads", "n_heads")


def by_torch_pruning(model: nn.Module, example: Tensor, ratio: float) -> dict[str, Any]:
    """MACs left and what is to be said of it: where there are heads, the best of three runs.

    Heads are not named to it; named, so that each gets narrower; or named and removed. Widths are rounded as ours.

    Args:
        model: The network; left as it was.
        example: (1, ...) what it is followed with.
        ratio: Share of every layer that goes.

    Returns:
        The row; ``widths`` are those of its layers afterwards.
    """
    ways = ("", "dims", "heads")[: 3 if _attention(model) else 1]
    rows = [_pruned(copy.deepcopy(model), model, example, ratio, way) for way in ways]
    order = ("right", "runs", "wrong", "fails")
    rounding = 0.1
    return min(
        rows,
        key=lambda row: (order.index(row["verdict"]), row.get("took", 0) > ratio + rounding, row.get("macs", 0)),
    )


def _pruned(smaller: nn.Module, model: nn.Module, example: Tensor, ratio: float, way: str) -> dict[str, Any]:
    try:
        groups, unlike = _cut(smaller, example, ratio, way)
    except Exception as error:  # noqa: BLE001 - whatever it raises is the finding
        return {"verdict": "fails", "why": f"{type(error).__name__}: {first_line(error)}"[:200]}
    try:
        found = _outputs(smaller, example)
        macs = count_macs(smaller, example)
    except Exception as error:  # noqa: BLE001 - whatever it raises is the finding
        return {"verdict": "wrong", "why": f"does not run: {type(error).__name__}: {first_line(error)}"[:200]}
    took = {"took": round(_taken(smaller, model), 3), "widths": _widths(smaller)}
    whole = _outputs(model, example)
    if [one.shape for one in found] != [one.shape for one in whole]:
        return {"verdict": "wrong", "why": "outputs of another shape", "macs": macs} | took
    expected = _outputs(_masked(copy.deepcopy(model), groups), example)
    worst = max((_far(one, two, three) for one, two, three in zip(found, expected, whole, strict=True)), default=0.0)
    if worst <= _TOLERANCE:
        return {"verdict": "right", "macs": macs} | took
    return {"verdict": "runs" if unlike else "wrong", "why": f"outputs differ by {worst:.2g}", "macs": macs} | took


def _taken(smaller: nn.Module, model: nn.Module) -> float:
    """The largest share of a layer's filters that went; more than was asked where coupled channels come on top."""
    before, after = _widths(model), _widths(smaller)
    return max((1 - after[name] / width for name, width in before.items() if name in after), default=0.0)


def _widths(model: nn.Module) -> dict[str, int]:
    return {name: _width(layer) for name, layer in model.named_modules() if isinstance(layer, _LAYERS)}


def _cut(smaller: nn.Module, example: Tensor, ratio: float, way: str) -> tuple[list[tuple[str, str, list[int]]], bool]:
    """Prune in place; what went where, in the network's numbers, and whether other means over channels lie there."""
    names = {module: name for name, module in smaller.named_modules()}
    counts = dict(_heads(smaller)) if way else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = tp.pruner.BasePruner(
            smaller,
            example,
            importance=tp.importance.GroupMagnitudeImportance(p=1),
            pruning_ratio=ratio,
            pruning_ratio_dict={each: _rounded(each, ratio) for each in smaller.modules() if isinstance(each, _LAYERS)},
            ignored_layers=[*final_layers(smaller, example)],
            num_heads={module: count for _, module, count in counts.values()},
            prune_num_heads=way == "heads",
            prune_head_dims=way != "heads",
            head_pruning_ratio=ratio,
            output_transform=lambda output: [each for each in all_outputs(output) if each.grad_fn is not None],
        )
        done: list[tuple[str, str, list[int]]] = []
        left: dict[tuple[str, str], list[int]] = {}
        unlike = False
        for group in pruner.step(interactive=True):
            for dep, idxs in group.items:
                module = dep.target.module
                into = group._DG.is_in_channel_pruning_fn(dep.handler)
                unlike |= isinstance(module, (nn.GroupNorm, nn.LocalResponseNorm, nn.Parameter))
                if module in names and isinstance(module, (*_LAYERS, nn.LayerNorm)) and into:
                    name = names[module]
                    side = "norm" if isinstance(module, nn.LayerNorm) else "layer"
                    width = module.normalized_shape[0] if side == "norm" else _inputs(module)
                    before = left.setdefault((name, side), list(range(width)))
                    gone = {before[index] for index in set(idxs)}
                    left[name, side] = [index for index in before if index not in gone]
                    if not isinstance(module, _ConvNd) or module.groups == 1:
                        done.append((name, side, sorted(gone)))
            group.prune()
        for owner, module, _ in counts.values():
            _tell(owner, module, pruner.num_heads.get(module, 0))
    return done, unlike


def _rounded(layer: Any, ratio: float) -> float:
    """The ratio by which torch-pruning, which rounds widths down, leaves as many as ours, which go to the nearest."""
    width = _width(layer)
    return max(0.0, 1 - (max(1, round(width * (1 - ratio))) + 0.01) / width)


def _width(layer: Any) -> int:
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)


def _inputs(module: Any) -> int:
    return int(module.in_features if isinstance(module, nn.Linear) else module.in_channels)


def _masked(model: nn.Module, done: list[tuple[str, str, list[int]]]) -> nn.Module:
    norms: dict[str, set[int]] = {}
    with torch.no_grad():
        for name, side, gone in done:
            layer: Any = model.get_submodule(name)
            if side == "norm":
                norms.setdefault(name, set()).update(gone)
            elif isinstance(layer, nn.modules.conv._ConvTransposeNd):
                layer.weight[gone] = 0
            else:
                layer.weight[:, gone] = 0
    for name, lost in norms.items():
        norm: Any = model.get_submodule(name)
        kept = [index for index in range(norm.normalized_shape[0]) if index not in lost]
        norm.forward = _leaving_out(norm, kept)
    return model


def _leaving_out(norm: Any, kept: list[int]) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        first = "2d" in type(norm).__name__ or getattr(norm, "data_format", "") == "channels_first"
        axis = 1 if first else -1
        part = x.index_select(axis, torch.tensor(kept)).movedim(axis, -1)
        weight, bias = (None if each is None else each[kept] for each in (norm.weight, norm.bias))
        normed = nn.functional.layer_norm(part, (len(kept),), weight, bias, norm.eps)
        return torch.zeros_like(x).index_copy(axis, torch.tensor(kept), normed.movedim(-1, axis))

    return forward


def final_layers(model: nn.Module, example: Tensor) -> set[nn.Module]:
    """The layers whose outputs reach the network's without another layer between."""
    made: dict[Any, nn.Module] = {}
    hooks = [
        module.register_forward_hook(lambda layer, _, output: made.update({output.grad_fn: layer}))
        for module in model.modules()
        if isinstance(module, _LAYERS)
    ]
    try:
        waiting = [each.grad_fn for each in all_outputs(model(example)) if each.grad_fn is not None]
    finally:
        for hook in hooks:
            hook.remove()
    found: set[nn.Module] = set()
    seen: set[Any] = set()
    while waiting:
        step = waiting.pop()
        if step is None or step in seen:
            continue
        seen.add(step)
        if step in made:
            found.add(made[step])
        else:
            waiting += [before for before, _ in step.next_functions]
    return found


def _attention(model: nn.Module) -> bool:
    return any(True for _ in _heads(model))


def _heads(model: nn.Module) -> Iterator[tuple[str, tuple[nn.Module, nn.Module, int]]]:
    """Where queries, keys and values are made, by whom, and of how many heads, as one tells torch-pruning."""
    for name, module in model.named_modules():
        count = next((value for key in _HEADS if isinstance(value := getattr(module, key, None), int)), 0)
        if count and isinstance(module, nn.MultiheadAttention):
            yield name, (module, module, count)
        elif count:
            for key in ("qkv", "to_qkv", "q", "k", "v", "query", "key", "value", "q_proj", "k_proj", "v_proj"):
                if isinstance(layer := getattr(module, key, None), nn.Linear):
                    yield f"{name}.{key}", (module, layer, count)


def _tell(owner: Any, layer: Any, count: int) -> None:
    """Say on the module how many heads there are, as torch-pruning's own examples do."""
    if isinstance(owner, nn.MultiheadAttention) or not count:
        return
    for key in _HEADS:
        if isinstance(getattr(owner, key, None), int):
            setattr(owner, key, count)
    width = layer.out_features // (3 if "qkv" in str(next(n for n, m in owner.named_modules() if m is layer)) else 1)
    for key in ("all_head_size", "attn_dim"):
        if isinstance(getattr(owner, key, None), int):
            setattr(owner, key, width)
    for key in ("head_dim", "attention_head_size"):
        if isinstance(getattr(owner, key, None), int):
            setattr(owner, key, width // count)


def _outputs(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return [each for each in all_outputs(model.eval()(inputs)) if each.is_floating_point()]


def _far(one: Tensor, two: Tensor, whole: Tensor) -> float:
    """How far two outputs are apart, held against what went changes, or else against their size."""
    if not bool(one.isfinite().all()):
        return float("inf")
    changed = float((two - whole).abs().max()) if two.numel() else 0.0
    size = max(changed, 1e-3 * float(whole.abs().max()) if whole.numel() else 0.0, 1e-12)
    return float((one - two).abs().max()) / size if one.numel() else 0.0
