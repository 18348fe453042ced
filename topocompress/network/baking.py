"""Weights that are computed whenever they are used, put in once and for all: masks, norms of weights, own formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm, SpectralNormLoadStateDictPreHook, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm

from topocompress.network.copying import copied
from topocompress.network.functions import FunctionCalls
from topocompress.network.layers import width_of

_PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_COMPUTING = (WeightNorm, SpectralNorm, prune.BasePruningMethod)
"""Hooks that compute a weight before every forward pass."""
_CALLS: dict[Any, tuple[str, ...]] = {
    F.linear: ("input", "weight", "bias"),
    **dict.fromkeys(
        (torch.conv1d, torch.conv2d, torch.conv3d),
        ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    ),
}


def baked(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode's terms that computes the same from plain weights; the model itself if it does so."""
    if not may_compute_weights(model):
        return model
    twin = copied(model)
    return twin if bake(twin) else model


def may_compute_weights(model: nn.Module) -> bool:
    """Whether :func:`bake` could find anything to do: a look that runs nothing and changes nothing."""
    return any(
        any(isinstance(hook, _COMPUTING) for hook in module._forward_pre_hooks.values())
        or parametrize.is_parametrized(module)
        or _with_formula(module) is not None
        for module in model.modules()
    )


def bake(model: nn.Module) -> bool:
    """Put what weights are in evaluation mode in their place, in place.

    That goes for masks that :mod:`torch.nn.utils.prune` has left, for its ``weight_norm`` and ``spectral_norm``, old
    and new, for any other parametrization, and for a layer of the user's own that only computes its weight from the
    one it holds, such as one with weight standardisation.

    Args:
        model: The network; changed in place, its modes are as before.

    Returns:
        Whether there was any such weight.
    """
    found = False
    for module in list(model.modules()):
        mode, module.training = module.training, False
        found |= any([_remove_hooks(module), _remove_parametrizations(module), _bake_formula(module)])
        module.training = mode
    return found


def _remove_hooks(module: nn.Module) -> bool:
    found = False
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, WeightNorm):
            _kept_frozen(module, hook.name, f"{hook.name}_v", lambda name: remove_weight_norm(module, name))
        elif isinstance(hook, SpectralNorm):
            _kept_frozen(module, hook.name, f"{hook.name}_orig", lambda name: remove_spectral_norm(module, name))
            for key, other in list(module._load_state_dict_pre_hooks.items()):  # torch leaves it
                if isinstance(getattr(other, "hook", other), SpectralNormLoadStateDictPreHook):
                    del module._load_state_dict_pre_hooks[key]
        elif isinstance(hook, prune.BasePruningMethod):
            name = hook._tensor_name
            _kept_frozen(module, name, f"{name}_orig", lambda name: prune.remove(module, name))  # type: ignore[no-untyped-call]
        else:
            continue
        found = True
    return found


def _remove_parametrizations(module: nn.Module) -> bool:
    """As torch does it, except that its class, which copies of the module share, stays what it is."""
    if not parametrize.is_parametrized(module):
        return False
    listed = dict(module.get_submodule("parametrizations").named_children())
    values = {name: getattr(module, name).detach().clone() for name in listed}
    del module._modules["parametrizations"]
    module.__class__ = type(module).__bases__[0]
    for name, value in values.items():
        sources = list(listed[name].parameters())
        if sources:
            module.register_parameter(name, nn.Parameter(value, any(each.requires_grad for each in sources)))
        else:
            module.register_buffer(name, value)
    return True


def _kept_frozen(module: nn.Module, name: str, source: str, remove: Callable[[str], Any]) -> None:
    trained = getattr(module, source).requires_grad
    remove(name)
    getattr(module, name).requires_grad_(trained)


def _with_formula(module: nn.Module) -> type[nn.Module] | None:
    """The plain layer that a layer with a forward pass of its own may come down to."""
    plain = next((kind for kind in _PLAIN if isinstance(module, kind) and type(module) is not kind), None)
    weight = module._parameters.get("weight")
    if plain is None or weight is None or type(module).forward is plain.forward or not weight.is_floating_point():
        return None
    return plain


def _bake_formula(module: nn.Module) -> bool:
    """Make a layer whose forward pass is a plain one but for a weight that it computes a plain one of this weight."""
    plain, weight = _with_formula(module), module._parameters.get("weight")
    if plain is None or weight is None:
        return False
    inputs = torch.zeros(1, width_of(module, out=False), *weight.shape[2:], dtype=weight.dtype, device=weight.device)
    watch = _Watch()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), watch:
            output = type(module).forward(module, inputs)
    except Exception:  # noqa: BLE001 - it is the user's own code; what does not run like this stays as it is
        return False
    if len(watch.calls) != 1:
        return False
    given, result = watch.calls[0]
    used = given["weight"]
    same = all(
        given[name] == getattr(module, name) for name in ("stride", "padding", "dilation", "groups") if name in given
    )
    own = given["input"] is inputs and given.get("bias") is module.bias and output is result and same
    if not own or used is weight or used.shape != weight.shape:
        return False
    with torch.no_grad():
        weight.copy_(used)
    module.__class__ = plain
    return True


class _Watch(FunctionCalls):
    """Notes the products that are computed, with their arguments and results."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[dict[str, Any], Tensor]] = []

    def _call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        output = func(*args, **kwargs)
        if func in _CALLS:
            self.calls.append(({**dict(zip(_CALLS[func], args, strict=False)), **kwargs}, output))
        return output
